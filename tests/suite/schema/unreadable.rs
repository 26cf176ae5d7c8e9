//! A row that cannot be read says which statement mends it, and is read as soon as it is.

use kindler::core::database::DatabaseError;

use super::migrated;
use super::triggers::listen;
use crate::kit::Sql;

/// Ways to make the row of `dev` unreadable, with the constraint that prevents each.
const WAYS: [(&str, &str, &str); 8] = [
    (
        "clusters_http_port_1_to_65535",
        "http_port = 0",
        "http_port",
    ),
    (
        "clusters_node_port_1_to_65535",
        "node_port = 70000",
        "node_port",
    ),
    (
        "clusters_subnet_is_ipv4_8_to_28",
        "subnet = 'fd00::/64'",
        "subnet",
    ),
    (
        "clusters_provider_is_known",
        "provider = 'docker'",
        "provider",
    ),
    (
        "clusters_desired_state_is_known",
        "desired_state = 'gone'",
        "desired_state",
    ),
    (
        "clusters_actual_state_is_known",
        "actual_state = 'absent'",
        "actual_state",
    ),
    (
        "clusters_times_in_years_1_to_9999",
        "next_check_at = 'infinity'",
        "next_check_at",
    ),
    ("clusters_name_is_a_label", "name = 'It''s Mine'", "name"),
];

#[tokio::test]
async fn an_unreadable_row_says_which_statement_mends_it() {
    let (database, client) = migrated().await;
    let store = database.store(1);
    for (constraint, change, field) in WAYS {
        client.declare("dev").await;
        client
            .run(&format!(
                "ALTER TABLE clusters DROP CONSTRAINT IF EXISTS {constraint};
                 ALTER TABLE clusters DROP CONSTRAINT IF EXISTS clusters_provider_check;
                 ALTER TABLE clusters DISABLE TRIGGER USER; UPDATE clusters SET {change};
                 ALTER TABLE clusters ENABLE TRIGGER USER"
            ))
            .await;
        let listed = store.list().await.unwrap();
        let (_, why) = listed[0].as_ref().unwrap_err();
        let why = why.to_string();
        let (_, statement) = why
            .split_once("; next: ")
            .unwrap_or_else(|| panic!("{why}"));
        assert!(statement.contains(&format!("SET {field} =")), "{why}");
        client.run(statement).await;
        let mended = store.list().await.unwrap();
        assert!(mended[0].is_ok(), "{why}: {mended:?}");
        client
            .run(
                "ALTER TABLE clusters DISABLE TRIGGER USER; DELETE FROM clusters;
                  ALTER TABLE clusters ENABLE TRIGGER USER",
            )
            .await;
    }
}

#[tokio::test]
async fn reading_one_cluster_names_the_statement_too() {
    let (database, client) = migrated().await;
    client.declare("dev").await;
    client
        .run(
            "ALTER TABLE clusters DROP CONSTRAINT clusters_actual_state_is_known;
              UPDATE clusters SET actual_state = 'lost'",
        )
        .await;
    let error = database
        .store(1)
        .get(&"dev".parse().unwrap())
        .await
        .unwrap_err();
    let DatabaseError::Unreadable { source, .. } = error else {
        panic!("{error}");
    };
    let expected = "UPDATE clusters SET actual_state = 'unknown' WHERE name = 'dev'";
    assert!(source.to_string().ends_with(expected), "{source}");
}

#[tokio::test]
async fn whatever_mends_a_row_makes_it_due_and_notifies() {
    let (database, client) = migrated().await;
    let (_listener, received) = listen(&database).await;
    client.declare("dev").await;
    let refused = "UPDATE clusters SET actual_state = 'failed', status_reason = 'RowInvalid',
        next_attempt_at = now() + interval '5 min', next_check_at = now() + interval '5 min'";
    for mended in [
        "actual_state = 'unknown'",
        "labels = '{}'",
        "created_at = now()",
        "failed_attempts = 0",
        "last_healthy_at = NULL",
    ] {
        client.run(refused).await;
        received.lock().unwrap().clear();
        client.run(&format!("UPDATE clusters SET {mended}")).await;
        let due = "SELECT count(*) FROM clusters WHERE due_at <= now()";
        assert_eq!(client.number(due).await, 1, "{mended}");
        crate::kit::eventually(
            std::time::Duration::from_secs(5),
            "a notification",
            || async { received.lock().unwrap().contains(&"dev".to_owned()) },
        )
        .await;
    }
    // The daemon's own status is no mending.
    client.run(refused).await;
    received.lock().unwrap().clear();
    client.run(refused).await;
    let due = "SELECT count(*) FROM clusters WHERE due_at <= now()";
    assert_eq!(client.number(due).await, 0);
}
