//! The takeover of an existing table loses nothing.

use kindler::core::database::Database as Url;
use kindler::store::{MigrateError, SCHEMA_VERSION, migrate};

use super::run_migration;
use crate::kit::{Database, Sql};

/// The table of the bash system, with rows.
pub const OLD_TABLE: &str = "
    CREATE TABLE clusters (
        name VARCHAR(63) PRIMARY KEY,
        provider VARCHAR(10) NOT NULL CHECK (provider IN ('k3d', 'kind')),
        subnet CIDR,
        node_port INTEGER NOT NULL,
        pf_port INTEGER NOT NULL,
        http_port INTEGER NOT NULL,
        https_port INTEGER NOT NULL,
        created_at TIMESTAMP WITHOUT TIME ZONE DEFAULT CURRENT_TIMESTAMP,
        updated_at TIMESTAMP WITHOUT TIME ZONE DEFAULT CURRENT_TIMESTAMP
    );
    INSERT INTO clusters (name, provider, subnet, node_port, pf_port, http_port, https_port, created_at) VALUES
        ('devops', 'k3d', '10.100.0.0/16', 30800, 19000, 80, 443, '2025-10-01 12:00'),
        ('dev', 'k3d', '10.101.0.0/16', 30080, 19001, 18090, 18443, '2025-10-02 12:00'),
        ('uat', 'kind', NULL, 30080, 19002, 18091, 18444, '2025-10-03 12:00')";

/// Columns that some users added by hand.
pub(super) const BY_HAND: &str = "
    ALTER TABLE clusters
        ADD COLUMN desired_state VARCHAR(20) DEFAULT 'present',
        ADD COLUMN actual_state VARCHAR(20) DEFAULT 'unknown',
        ADD COLUMN last_reconciled_at TIMESTAMP,
        ADD COLUMN reconcile_error VARCHAR(200);
    UPDATE clusters SET actual_state = 'running', last_reconciled_at = '2025-11-01 08:00' WHERE name = 'dev';
    UPDATE clusters SET actual_state = 'failed', reconcile_error = 'boom', desired_state = 'absent' WHERE name = 'uat'";

/// Every value of the original columns, in order.
pub(super) const OLD_VALUES: &str = "
    SELECT string_agg((name, provider, subnet, node_port, pf_port, http_port, https_port,
                       created_at::timestamp, updated_at::timestamp)::text, E'\\n' ORDER BY name) FROM clusters";

#[tokio::test]
async fn the_old_table_is_taken_over_with_every_row_and_value() {
    let database = Database::create().await;
    database.run(OLD_TABLE).await;
    let client = database.connect().await;
    let before = client.text(OLD_VALUES).await;
    assert_eq!(before.lines().count(), 3);

    let migrated = run_migration(&database).await;
    assert_eq!(migrated.applied, (1..=SCHEMA_VERSION).collect::<Vec<_>>());
    assert_eq!(client.text(OLD_VALUES).await, before);
    let states = "SELECT string_agg(name || ' ' || desired_state || ' ' || actual_state || ' ' || protected::text, ', ' ORDER BY name) FROM clusters";
    assert_eq!(
        client.text(states).await,
        "dev present unknown false, devops present unknown true, uat present unknown false"
    );
    assert_eq!(
        client
            .number("SELECT count(*) FROM cluster_revisions")
            .await,
        3
    );

    // A second migration changes neither rows nor definitions.
    let all = "SELECT string_agg(c::text, E'\\n' ORDER BY name) FROM clusters c";
    let (rows, shape) = (client.text(all).await, shape(&client).await);
    assert!(run_migration(&database).await.applied.is_empty());
    assert_eq!(
        (client.text(all).await, self::shape(&client).await),
        (rows, shape)
    );
}

#[tokio::test]
async fn columns_added_by_hand_are_taken_over_with_their_values() {
    let database = Database::create().await;
    database.run(OLD_TABLE).await;
    database.run(BY_HAND).await;
    let client = database.connect().await;
    let before = client.text(OLD_VALUES).await;
    run_migration(&database).await;
    assert_eq!(client.text(OLD_VALUES).await, before);
    let states = "SELECT string_agg(concat_ws(' ', name, desired_state, actual_state, reconcile_error), ', ' ORDER BY name) FROM clusters";
    assert_eq!(
        client.text(states).await,
        "dev present running, devops present unknown, uat absent failed boom"
    );
    let kept = "SELECT (last_reconciled_at AT TIME ZONE current_setting('TimeZone'))::text FROM clusters WHERE name = 'dev'";
    assert_eq!(client.text(kept).await, "2025-11-01 08:00:00");
    // A running cluster counts as applied, so that nothing is created again.
    let settled = "SELECT count(*) FROM clusters WHERE name = 'dev' AND observed_generation = generation AND observed_spec_hash = spec_hash";
    assert_eq!(client.number(settled).await, 1);
}

#[tokio::test]
async fn a_new_table_and_a_taken_over_one_are_equal() {
    let fresh = Database::create().await;
    run_migration(&fresh).await;
    let old = Database::create().await;
    old.run(OLD_TABLE).await;
    run_migration(&old).await;
    let (fresh, old) = (fresh.connect().await, old.connect().await);
    assert_eq!(shape(&fresh).await, shape(&old).await);
}

/// Columns, constraints, indexes and triggers of the table, as text.
pub(super) async fn shape(client: &tokio_postgres::Client) -> String {
    client.text("SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
            SELECT 'column ' || attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull
                   || ' ' || coalesce(pg_get_expr(adbin, adrelid), '') AS line
            FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            WHERE attrelid = 'clusters'::regclass AND attnum > 0 AND NOT attisdropped
            UNION ALL SELECT 'constraint ' || pg_get_constraintdef(oid) FROM pg_constraint
                      WHERE conrelid = 'clusters'::regclass
            UNION ALL SELECT 'index ' || pg_get_indexdef(indexrelid) FROM pg_index
                      WHERE indrelid = 'clusters'::regclass
            UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger
                      WHERE tgrelid = 'clusters'::regclass AND NOT tgisinternal) AS lines",
    )
    .await
}

#[tokio::test]
async fn concurrent_migrations_wait_for_each_other() {
    let database = Database::create().await;
    database.run(OLD_TABLE).await;
    let url = Url::parse(&database.url()).unwrap();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { migrate(&url).await.unwrap().applied.len() })
        })
        .collect();
    let mut steps = 0;
    for run in runs {
        steps += run.await.unwrap();
    }
    assert_eq!(
        steps,
        usize::try_from(SCHEMA_VERSION).unwrap(),
        "each migration is applied once"
    );
}

#[tokio::test]
async fn the_table_is_migrated_in_its_schema() {
    let database = Database::create().await;
    database.run("CREATE SCHEMA paas").await;
    database
        .run(&format!("SET search_path = paas; {OLD_TABLE}"))
        .await;
    let alter = format!(
        "ALTER DATABASE \"{}\" SET search_path = public, paas",
        database.name()
    );
    database.run(&alter).await;
    assert_eq!(run_migration(&database).await.schema, "paas");
    let client = database.connect().await;
    assert_eq!(client.number("SELECT count(*) FROM paas.clusters").await, 3);
    assert_eq!(
        client.text("SELECT paas.kindler_channel('wake')").await,
        "kindler_wake_paas"
    );
}

#[tokio::test]
async fn rows_that_break_a_rule_stay_and_stay_writable() {
    let database = Database::create().await;
    database.run(OLD_TABLE).await;
    database
        .run("INSERT INTO clusters VALUES ('Old_One', 'k3d', NULL, 0, 1, 2, 70000)")
        .await;
    run_migration(&database).await;
    let client = database.connect().await;
    client
        .run("UPDATE clusters SET status_message = 'seen' WHERE name = 'Old_One'")
        .await;
    let message = client
        .refused("UPDATE clusters SET http_port = 0 WHERE name = 'Old_One'")
        .await;
    assert_eq!(message, "http_port 0 is out of range: use 1 to 65535");
}

#[tokio::test]
async fn undefined_states_are_named_and_nothing_is_changed() {
    let database = Database::create().await;
    database.run(OLD_TABLE).await;
    database.run(BY_HAND).await;
    database
        .run("UPDATE clusters SET desired_state = 'Present!' WHERE name = 'uat'")
        .await;
    let client = database.connect().await;
    let before = shape(&client).await;
    let error = migrate(&Url::parse(&database.url()).unwrap())
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(message.contains("uat (desired_state Present!"), "{message}");
    assert!(message.contains("nothing was changed"), "{message}");
    assert_eq!(shape(&client).await, before);
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let (database, client) = super::migrated().await;
    client
        .run("INSERT INTO kindler_migrations VALUES (9999, 'later')")
        .await;
    let error = migrate(&Url::parse(&database.url()).unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(error, MigrateError::SchemaTooNew { found: 9999 }),
        "{error}"
    );
}

/// Also if the migration runs again; a row that is declared meanwhile owns nothing yet.
#[tokio::test]
async fn rows_of_the_table_own_the_clusters_of_their_names() {
    let database = Database::create().await;
    database.run(OLD_TABLE).await;
    run_migration(&database).await;
    let client = database.connect().await;
    client
        .run("INSERT INTO clusters (name, provider) VALUES ('later', 'k3d'), ('began', 'k3d')")
        .await;
    // As a release that recorded no driver left it.
    client
        .run(
            "UPDATE clusters SET actual_state = 'creating' WHERE name = 'began';
              UPDATE clusters SET actual_state = 'failed' WHERE name IN ('began', 'later')",
        )
        .await;
    let events = "SELECT count(*) FROM cluster_events";
    let before = client.number(events).await;
    client
        .run(include_str!("../../../sql/migrations/0026_adopted.sql"))
        .await;
    let adopted = "SELECT string_agg(name, ' ' ORDER BY name) FROM clusters WHERE adopt_requested_at IS NOT NULL";
    assert_eq!(client.text(adopted).await, "began dev devops uat");
    assert_eq!(client.number(events).await, before);
    let times = "SELECT string_agg(adopt_requested_at::text, ' ' ORDER BY name) FROM clusters";
    let first = client.text(times).await;
    client
        .run(include_str!("../../../sql/migrations/0026_adopted.sql"))
        .await;
    assert_eq!(client.text(times).await, first);
}
