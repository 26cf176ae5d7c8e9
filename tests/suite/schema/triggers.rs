//! The triggers: generations, notifications, history and guards. They also apply to
//! changes made with psql.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kindler::core::database::Database as Url;
use tokio_postgres::{AsyncMessage, Client};

use super::migrated;
use crate::kit::{Database, Sql, eventually};

const DEV: &str = "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d')";
/// A daemon with a selector.
const SELECTING: &str = "INSERT INTO kindler_replicas (owner, host, pid, version, selector) VALUES ('a', 'a', 1, '1', '{}')";

async fn generation(client: &Client) -> i64 {
    client
        .number("SELECT generation FROM clusters WHERE name = 'dev'")
        .await
}

#[tokio::test]
async fn only_changes_of_spec_or_desired_state_raise_generation() {
    let (_database, client) = migrated().await;
    client.declare("dev").await;
    assert_eq!(generation(&client).await, 1);
    for same in [
        "http_port = http_port",
        "desired_state = 'present'",
        "actual_state = 'running', status_reason = 'Healthy'",
        "server_ip = '10.0.0.7'",
        "labels = '{\"team\": \"a\"}'",
        "paused = true",
        "generation = 77",
        "updated_at = now()",
    ] {
        client.run(&format!("UPDATE clusters SET {same}")).await;
        assert_eq!(generation(&client).await, 1, "{same}");
    }
    let changes = [
        "http_port = 18099",
        "https_port = 18499",
        "node_port = 30081",
        "pf_port = 19009",
        "subnet = '10.7.0.0/16'",
        "register_portainer = false",
        "haproxy_route = false",
        "register_argocd = false",
        "desired_state = 'stopped'",
        "desired_state = 'absent'",
    ];
    for (n, change) in (2..).zip(changes) {
        client.run(&format!("UPDATE clusters SET {change}")).await;
        assert_eq!(generation(&client).await, n, "{change}");
    }
    // The scripts of the bash system upsert their own row; equal values change nothing.
    let upsert = "INSERT INTO clusters (name, provider, subnet, node_port, pf_port, http_port, https_port)
        SELECT name, provider, subnet, node_port, pf_port, http_port, https_port FROM clusters
        ON CONFLICT (name) DO UPDATE SET http_port = excluded.http_port, provider = excluded.provider,
            server_ip = '10.0.0.8', updated_at = now()";
    let before = generation(&client).await;
    client.run(upsert).await;
    assert_eq!(generation(&client).await, before);
}

#[tokio::test]
async fn new_equal_ports_are_rejected_and_old_ones_stay_writable() {
    let (_database, client) = migrated().await;
    // As an older release allowed it.
    let old = "ALTER TABLE clusters DISABLE TRIGGER clusters_1_check_ports;
        INSERT INTO clusters (name, provider, http_port, https_port) VALUES ('old', 'k3d', 18200, 18200);
        ALTER TABLE clusters ENABLE TRIGGER clusters_1_check_ports";
    client.run(old).await;
    for kept in [
        "UPDATE clusters SET actual_state = 'failed', http_port = http_port",
        "UPDATE clusters SET pf_port = 19500, desired_state = 'stopped'",
        "INSERT INTO clusters (name, provider, pf_port, http_port, https_port) VALUES ('old', 'k3d', 19500, 18200, 18200)
             ON CONFLICT (name) DO UPDATE SET https_port = excluded.https_port, server_ip = '10.0.0.8'",
    ] {
        client.run(kept).await;
    }
    for (change, message) in [
        (
            "UPDATE clusters SET pf_port = 18200",
            "pf_port and http_port are both 18200",
        ),
        (
            "UPDATE clusters SET http_port = 18300, https_port = 18300",
            "http_port and https_port are both 18300",
        ),
        (
            "INSERT INTO clusters (name, provider, http_port, https_port) VALUES ('new', 'k3d', 18080, 18080)",
            "http_port and https_port are both 18080",
        ),
    ] {
        let words = client.refused(change).await;
        assert!(words.contains(message), "{change}: {words}");
    }
    // The node port is within the cluster.
    let mended = "UPDATE clusters SET https_port = 18201, node_port = 18201";
    client.run(mended).await;
}

#[tokio::test]
async fn a_changed_declaration_resets_the_failure_count() {
    let (_database, client) = migrated().await;
    client.declare("dev").await;
    for change in ["http_port = http_port + 1", "retry_requested_at = now()"] {
        client
            .run(
                "UPDATE clusters SET actual_state = 'failed', failed_attempts = 7, next_attempt_at = now() + interval '5 min'",
            ).await;
        client.run(&format!("UPDATE clusters SET {change}")).await;
        let due = "SELECT count(*) FROM clusters WHERE failed_attempts = 0 AND next_attempt_at IS NULL AND due_at = '-infinity'";
        assert_eq!(client.number(due).await, 1, "{change}");
    }
}

/// Listens on the wake-up channel and collects the payloads.
pub(super) async fn listen(database: &Database) -> (Client, Arc<Mutex<Vec<String>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let into = received.clone();
    let (client, _task) = Url::parse(&database.url())
        .unwrap()
        .connect_listening(move |message| {
            if let AsyncMessage::Notification(ring) = message {
                into.lock().unwrap().push(ring.payload().to_owned());
            }
        })
        .await
        .unwrap();
    let channel = client.text("SELECT kindler_channel('wake')").await;
    client.run(&format!("LISTEN \"{channel}\"")).await;
    (client, received)
}

/// A connection, and the warnings that it receives, each with its hint.
pub(super) async fn noticing(database: &Database) -> (Client, Arc<Mutex<Vec<String>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let into = received.clone();
    let (client, _task) = Url::parse(&database.url())
        .unwrap()
        .connect_listening(move |message| {
            if let AsyncMessage::Notice(notice) = message
                && notice.severity() == "WARNING"
            {
                let hint = notice.hint().unwrap_or_default();
                into.lock()
                    .unwrap()
                    .push(format!("{} {hint}", notice.message()));
            }
        })
        .await
        .unwrap();
    (client, received)
}

#[tokio::test]
async fn declarations_notify_and_status_writes_do_not() {
    let (database, client) = migrated().await;
    let (listener, received) = listen(&database).await;
    let own_writes = "UPDATE clusters SET actual_state = 'running', status_reason = 'Healthy',
        failed_attempts = 1, next_attempt_at = now(), next_check_at = now(), last_reconciled_at = now(),
        observed_generation = generation, observed_spec_hash = spec_hash, health_failures = 2";
    let fence = "NOTIFY kindler_wake_public, 'end'";
    for (change, rings) in [
        (DEV, 1),
        (own_writes, 0),
        ("UPDATE clusters SET http_port = http_port", 0),
        ("UPDATE clusters SET labels = '{\"a\": 1}'", 0),
        // Labels notify only while a daemon has a selector.
        (SELECTING, 0),
        ("UPDATE clusters SET labels = '{\"a\": 2}'", 1),
        ("UPDATE clusters SET labels = '{\"a\": 2}'", 0),
        ("UPDATE clusters SET placed_by = 'a=2'", 0),
        ("UPDATE clusters SET labels = '{}'", 0),
        ("UPDATE clusters SET http_port = 18091", 1),
        ("UPDATE clusters SET paused = true", 1),
        ("UPDATE clusters SET paused = false", 1),
        ("UPDATE clusters SET retry_requested_at = now()", 1),
        ("DELETE FROM clusters", 1),
        ("DELETE FROM clusters", 0),
    ] {
        received.lock().unwrap().clear();
        client.run(change).await;
        client.run(fence).await;
        let payloads = eventually(Duration::from_secs(5), "the fence", || async {
            let payloads = received.lock().unwrap().clone();
            payloads
                .last()
                .is_some_and(|last| last == "end")
                .then_some(payloads)
        })
        .await;
        assert_eq!(
            payloads[..payloads.len() - 1],
            vec!["dev".to_owned(); rings],
            "{change}"
        );
    }
    drop(listener);
}

#[tokio::test]
async fn a_delete_becomes_a_declaration_and_truncate_is_rejected() {
    let (_database, client) = migrated().await;
    client.declare("dev").await;
    client.declare("devops").await;
    for state in [
        "unknown",
        "creating",
        "running",
        "restarting",
        "updating",
        "stopping",
        "stopped",
        "failed",
        "deleting",
    ] {
        let reset = format!(
            "UPDATE clusters SET desired_state = 'present', actual_state = '{state}' WHERE name = 'dev'"
        );
        client.run(&reset).await;
        let deleted = client
            .execute("DELETE FROM clusters WHERE name = 'dev'", &[])
            .await
            .unwrap();
        assert_eq!(deleted, 0);
        let left = "SELECT desired_state || ' ' || actual_state FROM clusters WHERE name = 'dev'";
        assert_eq!(client.text(left).await, format!("absent {state}"));
    }
    // A fence without a lease permits nothing.
    client
        .run("SET kindler.fence = '1'; DELETE FROM clusters WHERE name = 'dev'")
        .await;
    assert_eq!(client.number("SELECT count(*) FROM clusters").await, 2);

    let message = client
        .refused("DELETE FROM clusters WHERE name = 'devops'")
        .await;
    assert!(message.contains("devops is protected"), "{message}");
    let message = client
        .refused("UPDATE clusters SET desired_state = 'absent' WHERE name = 'devops'")
        .await;
    assert!(message.contains("desired_state stays present"), "{message}");
    let message = client.refused("TRUNCATE clusters CASCADE").await;
    assert!(message.contains("orphan"), "{message}");
    let message = client
        .refused("UPDATE clusters SET name = 'other' WHERE name = 'dev'")
        .await;
    assert!(message.contains("name cannot be changed"), "{message}");
    let message = client
        .refused("UPDATE clusters SET provider = 'kind' WHERE name = 'dev'")
        .await;
    assert!(message.contains("provider cannot be changed"), "{message}");
}

#[tokio::test]
async fn the_audit_log_names_actors_and_cannot_be_rewritten() {
    let (_database, client) = migrated().await;
    client.run("SET kindler.actor = 'ada'").await;
    client.declare("dev").await;
    client
        .run("UPDATE clusters SET http_port = 18099, desired_state = 'stopped'")
        .await;
    client
        .run("UPDATE clusters SET paused = true; UPDATE clusters SET retry_requested_at = now()")
        .await;
    client.run("SET kindler.actor = ''").await;
    client
        .run("UPDATE clusters SET actual_state = 'failed', status_reason = 'CreateFailed', status_message = 'why', reconcile_error = 'boom', failed_attempts = 1").await;
    let events = "SELECT string_agg(concat_ws(' ', kind, actor, generation, from_state, to_state, reason, error), ', ' ORDER BY id) FROM cluster_events";
    assert_eq!(
        client.text(events).await,
        "declared ada 1 unknown, changed ada 2, paused ada 2, retry ada 2, \
         transition postgres 2 unknown failed CreateFailed boom"
    );
    let change = "SELECT change::text FROM cluster_events WHERE kind = 'changed'";
    assert_eq!(
        client.text(change).await,
        r#"{"http_port": [18080, 18099], "desired_state": ["present", "stopped"]}"#
    );
    assert_eq!(
        client
            .number("SELECT count(*) FROM cluster_revisions")
            .await,
        2
    );
    for rewrite in [
        "UPDATE cluster_events SET actor = 'eve'",
        "DELETE FROM cluster_events",
        "TRUNCATE cluster_events",
        "DELETE FROM cluster_revisions",
    ] {
        assert!(
            client.refused(rewrite).await.contains("append-only"),
            "{rewrite}"
        );
    }
}

#[tokio::test]
async fn the_audit_log_shows_label_changes_with_actor_and_values() {
    let (_database, client) = migrated().await;
    client.declare("dev").await;
    for statement in [
        "SET kindler.actor = 'ada'",
        "UPDATE clusters SET labels = '{\"env\": \"prod\"}'",
        "UPDATE clusters SET labels = labels",
        "UPDATE clusters SET actual_state = 'running'",
    ] {
        client.run(statement).await;
    }
    let events = "SELECT string_agg(concat_ws(' ', kind, actor, generation, change), ', ') \
                 FROM cluster_events WHERE kind = 'changed'";
    assert_eq!(
        client.text(events).await,
        r#"changed ada 1 {"labels": [{}, {"env": "prod"}]}"#
    );
}

#[tokio::test]
async fn a_change_that_is_rolled_back_leaves_no_trace() {
    let (_database, client) = migrated().await;
    client.run(&format!("BEGIN; {DEV}; ROLLBACK")).await;
    assert_eq!(
        client.number("SELECT count(*) FROM cluster_events").await,
        0
    );
}

#[tokio::test]
async fn bad_values_are_rejected_with_field_and_limit() {
    let (_database, client) = migrated().await;
    let long = "x".repeat(33);
    for (columns, values, message) in [
        (
            "name, provider",
            "'Dev', 'k3d'",
            "name \"Dev\" is not valid: use 1 to 63",
        ),
        ("name, provider", "'', 'k3d'", "name \"\" is not valid"),
        (
            "name, provider",
            "repeat('x', 64), 'kind'",
            "is not valid: use 1 to 63",
        ),
        (
            "name, provider",
            "'dev', 'docker-desktop'",
            "\"docker-desktop\" is not known: use k3d or kind",
        ),
        (
            "name, provider",
            "'dev', 'k4d'",
            "provider \"k4d\" is not known: use k3d or kind",
        ),
        (
            "name, provider",
            &format!("'{long}', 'k3d'"),
            "k3d allows at most 32",
        ),
        (
            "name, provider",
            "repeat('x', 51), 'kind'",
            "kind allows at most 50",
        ),
        (
            "name, provider, http_port",
            "'dev', 'k3d', 0",
            "http_port 0 is out of range: use 1 to 65535",
        ),
        (
            "name, provider, pf_port",
            "'dev', 'k3d', 65536",
            "pf_port 65536 is out of range",
        ),
        (
            "name, provider, subnet",
            "'dev', 'k3d', 'fd00::/64'",
            "use an IPv4 network",
        ),
        (
            "name, provider, subnet",
            "'dev', 'k3d', '10.0.0.0/30'",
            "prefix length of 8 to 28",
        ),
        (
            "name, provider, subnet",
            "'dev', 'k3d', '10.0.0.1/16'",
            "invalid cidr value",
        ),
        (
            "name, provider, desired_state",
            "'dev', 'k3d', 'gone'",
            "desired_state \"gone\" is not known",
        ),
        (
            "name, provider, labels",
            "'dev', 'k3d', '[]'",
            "clusters_labels_is_an_object",
        ),
    ] {
        let answer = client
            .refused(&format!(
                "INSERT INTO clusters ({columns}) VALUES ({values})"
            ))
            .await;
        assert!(answer.contains(message), "{values}: {answer}");
    }
    assert_eq!(client.number("SELECT count(*) FROM clusters").await, 0);
}
