//! What a full pass finds and what it costs.

use std::time::Duration;

use kindler::clusters::Cluster;
use kindler::core::object::Object;
use kindler::core::table::Statements;
use kindler::store::Store;

use tokio_postgres::Client;

use super::migrated;
use crate::kit::Sql;

async fn due(store: &Store) -> Vec<String> {
    store
        .claims()
        .due(Duration::ZERO, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

#[tokio::test]
async fn thousands_of_due_creates_do_not_hide_other_rows() {
    let (database, client) = migrated().await;
    let store = database.store(2);
    client
        .run(
            "SET statement_timeout = 0; ALTER TABLE clusters DISABLE TRIGGER USER;
             INSERT INTO clusters (name, provider, pf_port, http_port, https_port, created_at)
             SELECT 'new' || n, 'kind', 19000, 18080, 18443, now() - interval '1 h'
             FROM generate_series(1, 10000) n;
             INSERT INTO clusters (name, provider, pf_port, http_port, https_port, desired_state, actual_state,
                                   observed_generation, observed_spec_hash, next_check_at, next_attempt_at)
             SELECT name, 'kind', 19000, 18080, 18443, desired, 'running', observed,
                    kindler_spec_hash('kind', NULL, 30080, 19000, 18080, 18443, true, true, true), now(), now()
             FROM (VALUES ('delete', 'absent', 0), ('stop', 'stopped', 0), ('check', 'present', 1)) AS v(name, desired, observed)",
        )
        .await;
    let found = store.claims().due(Duration::ZERO, 2048).await.unwrap();
    assert_eq!(found.len(), 2048);
    let first: Vec<&str> = found[..4].iter().map(|(name, _)| name.as_str()).collect();
    for name in ["delete", "stop", "check"] {
        assert!(first.contains(&name), "{first:?}");
    }
}

#[tokio::test]
async fn a_backlog_of_each_class_leaves_room_for_every_other() {
    let (database, client) = migrated().await;
    let store = database.store(2);
    client
        .run(
            "SET statement_timeout = 0; ALTER TABLE clusters DISABLE TRIGGER USER;
             INSERT INTO clusters (name, provider, pf_port, http_port, https_port, desired_state, actual_state,
                                   observed_generation, observed_spec_hash, next_check_at, next_attempt_at)
             SELECT name || n, 'kind', 19000, 18080, 18443, desired, actual, observed,
                    kindler_spec_hash('kind', NULL, 30080, 19000, 18080, 18443, true, true, true), now() - age, now() - age
             FROM (VALUES ('delete', 'absent', 'running', 0, interval '4 h'), ('stop', 'stopped', 'running', 0, '3 h'),
                          ('check', 'present', 'running', 1, '2 h'), ('new', 'present', 'unknown', 0, '1 h'))
                  AS v(name, desired, actual, observed, age), generate_series(1, 100) n",
        )
        .await;
    let found = store.claims().due(Duration::ZERO, 100).await.unwrap();
    for class in ["delete", "stop", "check", "new"] {
        let of_class = found.iter().filter(|(name, _)| name.starts_with(class));
        assert_eq!(of_class.count(), 25, "{class}");
    }
}

#[tokio::test]
async fn changes_made_with_triggers_off_are_found() {
    let (database, client) = migrated().await;
    let store = database.store(2);
    client
        .run(
            "INSERT INTO clusters (name, provider) VALUES ('spec', 'k3d'), ('desire', 'k3d');
             UPDATE clusters SET actual_state = 'running', observed_generation = generation,
                observed_spec_hash = spec_hash, next_check_at = now() + interval '5 min'",
        )
        .await;
    assert_eq!(due(&store).await, Vec::<String>::new());
    client
        .run(
            "ALTER TABLE clusters DISABLE TRIGGER USER;
             UPDATE clusters SET http_port = 18099 WHERE name = 'spec';
             UPDATE clusters SET desired_state = 'absent' WHERE name = 'desire';
             INSERT INTO clusters (name, provider, pf_port, http_port, https_port)
             VALUES ('new', 'k3d', 19009, 18099, 18499)",
        )
        .await;
    let mut found = due(&store).await;
    found.sort();
    assert_eq!(found, ["desire", "new", "spec"]);
}

/// One row for each combination that matters for due and settled.
async fn rows_of_every_kind(client: &Client) {
    client
        .run(
            "INSERT INTO clusters (name, provider, desired_state, actual_state, paused, next_attempt_at, next_check_at)
             SELECT d || '-' || a || '-' || p::int, 'kind', d, a, p, '2030-01-01', '2031-01-01'
             FROM unnest(ARRAY['present', 'stopped', 'absent']) d,
                  unnest(ARRAY['unknown', 'creating', 'running', 'restarting', 'updating', 'stopping', 'stopped', 'failed', 'deleting']) a,
                  unnest(ARRAY[true, false]) p;
             INSERT INTO clusters (name, provider, actual_state, next_check_at, next_attempt_at)
             SELECT 'applied-' || n, 'kind', 'running', '2031-01-01', '2030-01-01' FROM generate_series(0, 3) n;
             UPDATE clusters SET observed_generation = generation WHERE name IN ('applied-1', 'applied-3') OR name LIKE 'stopped-stopped%';
             UPDATE clusters SET observed_spec_hash = spec_hash WHERE name IN ('applied-2', 'applied-3')",
        ).await;
}

#[tokio::test]
async fn the_database_and_the_code_agree_on_what_is_settled() {
    let (database, client) = migrated().await;
    rows_of_every_kind(&client).await;
    let store = database.store(2);
    let names = "SELECT name FROM clusters";
    let (mut unsettled, mut settled) = (0, 0);
    for row in client.query(names, &[]).await.unwrap() {
        let name: String = row.get(0);
        let cluster = store.get(&name.parse().unwrap()).await.unwrap().unwrap();
        if !cluster.observe_only() {
            settled += i64::from(cluster.settled());
            unsettled += i64::from(!cluster.settled());
        }
    }
    assert_eq!(settled, 2, "a running and a stopped one");
    assert_eq!(store.unconverged().await.unwrap().unsettled, unsettled);
}

#[tokio::test]
async fn the_database_and_the_plan_agree_on_what_is_due() {
    let (database, client) = migrated().await;
    rows_of_every_kind(&client).await;
    let store = database.store(2);
    let rows = client
        .query("SELECT name, due_at FROM clusters", &[])
        .await
        .unwrap();
    assert_eq!(rows.len(), 58);
    for row in rows {
        let name: String = row.get(0);
        let cluster = store.get(&name.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(
            cluster.due_at(),
            row.get::<_, Option<jiff::Timestamp>>(1),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_pass_over_200_000_settled_rows_reads_only_what_is_due() {
    let (_database, client) = migrated().await;
    client
        .run(
            r#"SET statement_timeout = 0; ALTER TABLE clusters DISABLE TRIGGER USER;
             INSERT INTO clusters (name, provider, pf_port, http_port, https_port, actual_state, observed_generation, next_check_at, observed_spec_hash)
             SELECT 'c' || n, 'kind', 19000, 18080, 18443, 'running', 1, now() + interval '5 min' + n * interval '1 ms',
                    kindler_spec_hash('kind', NULL, 30080, 19000, 18080, 18443, true, true, true)
             FROM generate_series(1, 200000) n;
             INSERT INTO clusters (name, provider, pf_port, http_port, https_port, labels, placed_by)
             SELECT 'due' || n, 'kind', 19000, 18080, 18443, CASE n WHEN 1 THEN '{"host": "a"}'::jsonb ELSE '{}' END, CASE n WHEN 2 THEN 'host=a' END
             FROM generate_series(1, 7) n;
             ANALYZE clusters"#,
        ).await;
    // With the values that the daemon binds.
    for (selector, due) in [
        ("NULL", 7),
        (
            r#"'{"place": "host=a", "requirements": [{"key": "host", "op": "in", "values": ["a"]}]}'"#,
            2,
        ),
    ] {
        let pass = Statements::of(&Cluster::TABLE)
            .due
            .replace("$1", "30")
            .replace("$2", "2048")
            .replace("$3", selector);
        let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) {pass}");
        let plan: serde_json::Value = client.value(&explain).await;
        let shown = plan.to_string();
        assert!(shown.contains("clusters_due"), "{shown}");
        assert!(
            !shown.contains(
                r#""Node Type":"Seq Scan","Parallel Aware":false,"Relation Name":"clusters""#
            ),
            "{shown}"
        );
        assert!(
            !shown.contains("kindler_takes"),
            "the function is inlined: {shown}"
        );
        let scanned = index_scan_rows(&plan[0]["Plan"]).expect("an index scan");
        assert!(
            scanned <= 7.0,
            "{scanned} rows were read for 7 due ones: {shown}"
        );
        let found = format!("SELECT count(*) FROM ({pass}) AS due");
        assert_eq!(client.number(&found).await, due);
    }
}

/// Number of rows that the scan of the due index returned.
fn index_scan_rows(node: &serde_json::Value) -> Option<f64> {
    if node["Index Name"] == "clusters_due" {
        return node["Actual Rows"].as_f64();
    }
    node["Plans"].as_array()?.iter().find_map(index_scan_rows)
}
