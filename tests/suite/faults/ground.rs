//! What Kindler stands on is damaged while it runs: triggers, privileges, row-level security,
//! the schema's name, the clock. Within 15 s metric, `/readyz`, heartbeat and `kindler status`
//! name cause and next step, and all of them end with the fault.

use std::time::Duration;

use crate::kit::{Daemon, Database, Host, Sql, eventually, kindler_output, migrated};

const ROLES: &str = include_str!("../../../sql/roles.sql");

/// Within which a fault is shown.
const SHOWN: Duration = Duration::from_secs(15);

/// Waits until everything shows this finding, with words of its cause and next step.
async fn shown(daemon: &Daemon, database: &Database, host: &Host, code: &str, words: &[&str]) {
    let series = format!("kindler_finding{{code=\"{code}\",severity=\"failure\"}}");
    eventually(SHOWN, code, || async {
        let (status, body) = daemon.get("/readyz").await?;
        let listed =
            status == 200 && body.starts_with("ready, but degraded") && body.contains(code);
        let listed = listed && words.iter().all(|word| body.contains(word));
        (listed && daemon.metric(&series).await == Some(1.0)).then_some(())
    })
    .await;
    let stored = format!(
        "SELECT count(*) FROM kindler_replicas WHERE findings @> '[{{\"code\": \"{code}\"}}]'"
    );
    let sql = database.connect().await;
    sql.wait_number(&stored, 1).await;
    let (status, exit) = kindler_output(&database.url(), host, &["status"]);
    assert_eq!(exit, Some(1), "{status}");
    for word in words.iter().chain(&[code]) {
        assert!(status.contains(word), "{word} is missing in {status}");
    }
}

/// Waits until no failure is left.
async fn ended(daemon: &Daemon, database: &Database, host: &Host, code: &str) {
    eventually(SHOWN, "the end of the finding", || async {
        let (status, body) = daemon.get("/readyz").await?;
        (status == 200 && !body.contains(code)).then_some(())
    })
    .await;
    let sql = database.connect().await;
    let stored = format!(
        "SELECT count(*) FROM kindler_replicas WHERE findings @> '[{{\"code\": \"{code}\"}}]'"
    );
    sql.wait_number(&stored, 0).await;
    let (status, exit) = kindler_output(&database.url(), host, &["status"]);
    assert_eq!(exit, Some(0), "{status}");
}

#[tokio::test]
async fn a_disabled_trigger_is_shown_and_migrate_restores_it() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.run("ALTER TABLE clusters DISABLE TRIGGER clusters_3_guard_delete")
        .await;
    let words = [
        "trigger clusters_3_guard_delete on clusters is disabled",
        "a DELETE can remove the row of a cluster that exists",
        "kindler migrate",
    ];
    shown(&daemon, &database, &host, "SchemaDamaged", &words).await;
    let (output, exit) = kindler_output(&database.url(), &host, &["migrate"]);
    assert_eq!(exit, Some(0), "{output}");
    let restored = "restored: trigger clusters_3_guard_delete on clusters (was disabled)";
    assert!(output.contains(restored), "{output}");
    ended(&daemon, &database, &host, "SchemaDamaged").await;
}

#[tokio::test]
async fn an_api_server_shows_a_replaced_function() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_API_ONLY", "true")
        .start()
        .await;
    let sql = database.connect().await;
    sql.run(
        "CREATE OR REPLACE FUNCTION clusters_guard_delete() RETURNS trigger
         LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
    )
    .await;
    let cause = "function clusters_guard_delete() is changed";
    eventually(SHOWN, cause, || async {
        let (status, body) = daemon.get("/readyz").await?;
        (status == 200 && body.contains(cause) && body.contains("kindler migrate")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_missing_privilege_is_shown_with_its_grant() {
    let (database, host) = (migrated().await, Host::new());
    let (sql, user) = (database.connect().await, format!("d_{}", database.name()));
    sql.run(ROLES).await;
    sql.run(&format!(
        "CREATE ROLE \"{user}\" LOGIN IN ROLE kindler_daemon"
    ))
    .await;
    let daemon = Daemon::builder(&database.url_as(&user), &host)
        .start()
        .await;
    // The version is read first: its refusal does not hide the rest.
    sql.run(
        "REVOKE UPDATE (placed_by) ON clusters FROM kindler_daemon;
         REVOKE SELECT ON kindler_migrations FROM kindler_daemon",
    )
    .await;
    let words = ["UPDATE (placed_by) ON clusters", "GRANT ", &user];
    shown(&daemon, &database, &host, "PrivilegeMissing", &words).await;
    sql.run(ROLES).await;
    ended(&daemon, &database, &host, "PrivilegeMissing").await;

    // Nothing of the heartbeat can be written: only this process shows it.
    sql.run("REVOKE INSERT, UPDATE ON kindler_replicas FROM kindler_daemon")
        .await;
    eventually(SHOWN, "the grant", || async {
        let (status, body) = daemon.get("/readyz").await?;
        let grant = "INSERT ON kindler_replicas";
        (status == 200 && body.contains(grant) && body.contains("GRANT")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn row_level_security_that_hides_rows_is_shown() {
    let (database, host) = (migrated().await, Host::new());
    let (sql, user) = (database.connect().await, format!("d_{}", database.name()));
    sql.run(ROLES).await;
    sql.run(&format!(
        "CREATE ROLE \"{user}\" LOGIN IN ROLE kindler_daemon"
    ))
    .await;
    let daemon = Daemon::builder(&database.url_as(&user), &host)
        .start()
        .await;
    sql.run("ALTER TABLE clusters ENABLE ROW LEVEL SECURITY")
        .await;
    let words = [
        "row-level security can hide rows of clusters",
        "ALTER TABLE clusters DISABLE ROW LEVEL SECURITY",
    ];
    shown(&daemon, &database, &host, "RowsHidden", &words).await;
    sql.run("ALTER TABLE clusters DISABLE ROW LEVEL SECURITY")
        .await;
    ended(&daemon, &database, &host, "RowsHidden").await;
}

#[tokio::test]
async fn a_renamed_schema_is_shown_and_nothing_restarts() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.run("ALTER SCHEMA public RENAME TO elsewhere").await;
    eventually(SHOWN, "where the tables are", || async {
        let (status, body) = daemon.get("/readyz").await?;
        let cause = "Kindler's tables are in the schema elsewhere";
        (status == 200 && body.contains(cause) && body.contains("search_path")).then_some(())
    })
    .await;
    sql.run("ALTER SCHEMA elsewhere RENAME TO public").await;
    ended(&daemon, &database, &host, "SchemaUnusable").await;
}
