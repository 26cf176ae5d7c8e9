//! Stored times are points in time that every program can hold.

use super::{migrated, run_migration};
use crate::kit::Sql;

/// Every column of a time, as `TABLE.COLUMN`.
const COLUMNS: &str = "
    SELECT string_agg(c.relname || '.' || a.attname, ' ' ORDER BY c.relname, a.attnum)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0
      AND NOT a.attisdropped AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype)";

#[tokio::test]
async fn stored_times_do_not_depend_on_the_sessions_zone() {
    let (database, client) = migrated().await;
    let zones = [
        ("utc", "UTC"),
        ("tokyo", "Asia/Tokyo"),
        ("west", "Pacific/Honolulu"),
    ];
    for (name, zone) in zones {
        client
            .run(&format!(
                "SET TimeZone = '{zone}'; INSERT INTO clusters (name, provider) VALUES ('{name}', 'k3d');
                 UPDATE clusters SET paused = true WHERE name = '{name}'"
            ))
            .await;
    }
    let apart = "SELECT extract(epoch FROM max(greatest(created_at, updated_at)) - min(least(created_at, updated_at)))::bigint FROM clusters";
    assert!(client.number(apart).await < 60);
    let store = database.store(1);
    for (name, _) in zones {
        let cluster = store.get(&name.parse().unwrap()).await.unwrap().unwrap();
        let age = jiff::Timestamp::now().duration_since(cluster.created_at.unwrap());
        assert!(age.as_secs().abs() < 60, "{name}: {age}");
    }
    let types =
        "SELECT count(*) FROM information_schema.columns WHERE table_schema = current_schema()
        AND data_type = 'timestamp without time zone'";
    assert_eq!(client.number(types).await, 0);
}

#[tokio::test]
async fn a_time_that_programs_cannot_hold_is_refused() {
    let (_database, client) = migrated().await;
    client
        .run(
            "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d');
             INSERT INTO kindler_replicas (owner, host, pid, version) VALUES ('a', 'a', 1, '1')",
        )
        .await;
    let columns = client.text(COLUMNS).await;
    for column in columns.split(' ') {
        let (table, field) = column.split_once('.').unwrap();
        // Generated, written by migrations only, or not read as a time.
        let unchecked = ["clusters.due_at", "kindler_migrations.applied_at"];
        if unchecked.contains(&column) || table == "kindler_timelines" {
            continue;
        }
        let rules = format!(
            "SELECT count(*) FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'c'
             AND pg_get_constraintdef(oid) LIKE '%{field}%'"
        );
        assert_ne!(client.number(&rules).await, 0, "{column}");
        if !matches!(table, "clusters" | "kindler_replicas") {
            continue;
        }
        for time in ["infinity", "-infinity", "20000-01-01", "0044-03-15 BC"] {
            let update = format!("UPDATE {table} SET {field} = '{time}'");
            let refused = client.refused(&update).await;
            let rule = format!("{table}_times_in_years_1_to_9999");
            assert!(refused.contains(&rule), "{update}: {refused}");
        }
    }
}

#[tokio::test]
async fn a_migration_brings_stored_times_within_the_limits() {
    let (database, client) = migrated().await;
    client
        .run(
            "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d');
             ALTER TABLE clusters DROP CONSTRAINT clusters_times_in_years_1_to_9999;
             ALTER TABLE cluster_events DROP CONSTRAINT cluster_events_times_in_years_1_to_9999;
             UPDATE clusters SET next_attempt_at = 'infinity', created_at = '-infinity';
             ALTER TABLE cluster_events DISABLE TRIGGER USER;
             UPDATE cluster_events SET at = 'infinity';
             ALTER TABLE cluster_events ENABLE TRIGGER USER;
             DELETE FROM kindler_migrations WHERE version >= (
                 SELECT version FROM kindler_migrations WHERE name = 'ports and times')",
        )
        .await;
    assert!(!run_migration(&database).await.applied.is_empty());
    let store = database.store(1);
    let cluster = store.get(&"dev".parse().unwrap()).await.unwrap().unwrap();
    let never = cluster.next_attempt_at.unwrap();
    assert_eq!(never.to_string(), "9999-12-30T00:00:00Z");
    let created = cluster.created_at.unwrap();
    assert_eq!(created.to_string(), "0001-01-01T00:00:00Z");
    assert_eq!(cluster.generation, 1);
    let events = "SELECT count(*) FROM cluster_events WHERE at = '9999-12-30'";
    assert_eq!(client.number(events).await, 1);
}
