//! The database refuses what the daemon writes: a foreign key, a trigger of the
//! administrator, a missing relation of others, an encoding. The cause is shown, the
//! delay between attempts grows, commands are not repeated, and the row continues when the
//! cause is gone.

use tokio_postgres::Client;

use super::{converged, quick, report, rounds};
use crate::api::client::Client as Http;
use crate::kit::{
    Daemon, DaemonBuilder, Database, Host, Sql, TIMEOUT, eventually, kindler_output, migrated,
};

/// Refuses the daemon's statements on a table while a condition on its row holds.
fn refusing(table: &str, event: &str, condition: &str) -> String {
    format!(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'not on Fridays'; END $$;
         CREATE TRIGGER zz_no BEFORE {event} ON {table} FOR EACH ROW
         WHEN (current_setting('kindler.actor', true) LIKE 'kindler@%' AND ({condition}))
         EXECUTE FUNCTION no()"
    )
}

const ALLOW: &str = "DROP FUNCTION no() CASCADE";

async fn why(sql: &Client) -> String {
    sql.text("SELECT status_reason || ': ' || status_message FROM clusters WHERE name = 'dev'")
        .await
}

async fn wait_attempts(sql: &Client, count: i64) {
    let attempts = "SELECT failed_attempts::int8 FROM clusters WHERE name = 'dev'";
    eventually(TIMEOUT * 3, &format!("{count} attempts"), || async {
        sql.number(attempts).await >= count
    })
    .await;
}

/// The row shows the refusal of a write to it, and its attempts.
async fn assert_shown(sql: &Client, database: &Database, host: &Host, part: &str) {
    wait_attempts(sql, 2).await;
    let why = why(sql).await;
    assert!(
        why.starts_with("WriteRefused: ") && why.contains(part),
        "{why}"
    );
    assert!(!why.contains("kindler migrate"), "{why}");
    let (get, _) = kindler_output(&database.url(), host, &["get", "dev"]);
    assert!(
        get.contains(part) && get.contains("attempts in a row"),
        "{get}"
    );
    let (status, code) = kindler_output(&database.url(), host, &["status"]);
    assert!(status.contains(part), "{status}");
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn a_foreign_key_that_keeps_a_row_is_shown() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let _daemon = quick(&database.url(), &host).start().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present running").await;
    sql.run(
        "CREATE TABLE bills (cluster text CONSTRAINT billed REFERENCES clusters (name));
         INSERT INTO bills VALUES ('dev')",
    )
    .await;
    sql.desire("dev", "absent").await;
    sql.wait_state("dev", "absent failed").await;
    assert_shown(&sql, &database, &host, "\"billed\"").await;
    let began = host.started("dev");
    assert_eq!(began, ["create", "delete"], "the delete is not repeated");

    sql.run("DELETE FROM bills").await;
    sql.wait_state("dev", "gone").await;
    assert_eq!(host.started("dev"), began);
    converged(&sql, &host).await;
}

/// A trigger refuses one write of a create; then it is dropped.
async fn a_write_is_refused(trigger: &str, shown: &str, expected: &[&str]) {
    let attempts = rounds(2, 20);
    for _ in 0..rounds(1, 3) {
        refuse_a_write(trigger, shown, expected, attempts).await;
    }
    report(
        &format!("refused writes ({shown})"),
        &format!(
            "{} rows, each refused {attempts} times in a row, no command repeated",
            rounds(1, 3)
        ),
    );
}

async fn refuse_a_write(trigger: &str, shown: &str, expected: &[&str], attempts: usize) {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    sql.run(trigger).await;
    let daemon = quick(&database.url(), &host).start().await;
    sql.declare("dev").await;
    wait_attempts(&sql, attempts.try_into().unwrap()).await;
    assert_shown(&sql, &database, &host, shown).await;
    assert_eq!(host.started("dev"), expected);
    let counted = "kindler_refused_writes_total{controller=\"cluster\"}";
    assert!(daemon.metric(counted).await >= Some(2.0));

    sql.run(ALLOW).await;
    sql.wait_state("dev", "present running").await;
    converged(&sql, &host).await;
    assert_eq!(host.started("dev"), ["create"], "{:#?}", host.journal());
}

#[tokio::test]
async fn a_refused_intent_is_shown_and_starts_nothing() {
    let trigger = refusing("clusters", "UPDATE", "NEW.actual_state = 'creating'");
    a_write_is_refused(
        &trigger,
        "not on Fridays (P0001, PL/pgSQL function no()",
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_refused_result_is_shown_and_repeats_nothing() {
    let trigger = refusing("clusters", "UPDATE", "NEW.actual_state = 'running'");
    a_write_is_refused(&trigger, "not on Fridays", &["create"]).await;
}

/// The transaction that counts a deletion and commits its intent.
#[tokio::test]
async fn a_refused_intent_to_delete_deletes_nothing() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let _daemon = quick(&database.url(), &host).start().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present running").await;
    sql.run(&refusing("cluster_deletions", "INSERT", "true"))
        .await;
    sql.desire("dev", "absent").await;
    assert_shown(&sql, &database, &host, "begin a deletion").await;
    assert_eq!(sql.state("dev").await, "absent running");
    assert_eq!(host.started("dev"), ["create"]);
    sql.run(ALLOW).await;
    sql.wait_state("dev", "gone").await;
    converged(&sql, &host).await;
    assert_eq!(host.started("dev"), ["create", "delete"]);
}

#[tokio::test]
async fn a_refused_event_is_shown_and_repeats_nothing() {
    let trigger = refusing("cluster_events", "INSERT", "NEW.to_state = 'running'");
    a_write_is_refused(&trigger, "not on Fridays", &["create"]).await;
}

#[tokio::test]
async fn a_refused_renewal_is_shown_and_starts_nothing() {
    let condition = "NEW.owner = OLD.owner AND EXISTS (
        SELECT FROM clusters WHERE name = NEW.cluster_name AND actual_state = 'creating')";
    // A condition of a trigger contains no query.
    let trigger = format!(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF {condition} THEN RAISE EXCEPTION 'not on Fridays'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER zz_no BEFORE UPDATE ON cluster_leases FOR EACH ROW EXECUTE FUNCTION no()"
    );
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    sql.run(&trigger).await;
    let daemon = quick(&database.url(), &host).start().await;
    sql.declare("dev").await;
    assert_in_memory(&daemon, &database, &host, "renew a lease").await;
    assert!(host.started("dev").is_empty());
    sql.run(ALLOW).await;
    sql.run("UPDATE clusters SET retry_requested_at = now()")
        .await;
    converged(&sql, &host).await;
    assert_eq!(host.started("dev"), ["create"]);
}

#[tokio::test]
async fn a_missing_relation_of_others_is_named() {
    let trigger = "
        CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.actual_state = 'running' THEN INSERT INTO audit_log VALUES (NEW.name); END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER zz_no BEFORE UPDATE ON clusters FOR EACH ROW EXECUTE FUNCTION no()";
    let shown = "relation \"audit_log\" does not exist (42P01, PL/pgSQL function no()";
    a_write_is_refused(trigger, shown, &["create"]).await;
}

/// What the row cannot show is shown by the daemon's heartbeat, its metrics and its API.
async fn assert_in_memory(daemon: &Daemon, database: &Database, host: &Host, part: &str) {
    let refused = "kindler_refused_keys{controller=\"cluster\"}";
    daemon.wait_metric(refused, 1.0).await;
    let get = async || kindler_output(&database.url(), host, &["get", "dev"]).0;
    eventually(TIMEOUT, "the refusal in `kindler get`", || async {
        let get = get().await;
        get.contains("refused ") && get.contains(part)
    })
    .await;
    let (status, code) = kindler_output(&database.url(), host, &["status"]);
    assert!(
        status.contains("refused ") && status.contains(part),
        "{status}"
    );
    assert_eq!(code, Some(1));
    let (_, status) = daemon.get("/api/status").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let refused = &status["replicas"][0]["replica"]["refused"][0];
    assert_eq!(refused["key"], "dev", "{status}");
    assert!(refused["why"].as_str().unwrap().contains(part), "{status}");
    let degraded = async || {
        let (status, body) = daemon.get("/readyz").await?;
        let found = body.contains("degraded") && body.contains("WritesRefused: ");
        (status == 200 && found && body.contains(part) && body.contains("next: ")).then_some(())
    };
    eventually(TIMEOUT, "the refusal in /readyz", degraded).await;
}

/// A daemon that tries twice within some seconds, although a full pass runs every second.
fn patient(database: &Database, host: &Host) -> DaemonBuilder {
    quick(&database.url(), host)
        .set("KINDLER_BACKOFF_INITIAL", "2s")
        .set("KINDLER_BACKOFF_MAX", "1m")
}

/// Nothing of the row can be written. Other rows work.
async fn a_row_cannot_be_written(trigger: &str, operation: &str) {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    sql.run(trigger).await;
    let daemon = patient(&database, &host).start().await;
    sql.declare("dev").await;
    sql.declare("other").await;
    sql.wait_state("other", "present running").await;
    assert_in_memory(&daemon, &database, &host, operation).await;
    daemon.full_passes(5).await;
    let total = "kindler_refused_writes_total{controller=\"cluster\"}";
    let attempts = daemon.metric(total).await.unwrap();
    assert!(
        attempts <= 4.0,
        "{attempts} attempts: the delay does not grow"
    );
    assert!(host.started("dev").is_empty(), "{:#?}", host.journal());

    // The cause is removed, and a person asks for an attempt.
    sql.run(ALLOW).await;
    let (retry, code) = kindler_output(&database.url(), &host, &["retry", "dev", "--wait"]);
    assert_eq!(code, Some(0), "{retry}");
    converged(&sql, &host).await;
    daemon
        .wait_metric("kindler_refused_keys{controller=\"cluster\"}", 0.0)
        .await;
    assert_eq!(host.started("dev"), ["create"]);
}

#[tokio::test]
async fn a_row_that_cannot_be_written_at_all_is_shown() {
    let trigger = refusing("clusters", "UPDATE", "NEW.name = 'dev'");
    a_row_cannot_be_written(&trigger, "not on Fridays").await;
}

#[tokio::test]
async fn a_row_that_cannot_be_claimed_is_shown() {
    let trigger = refusing("cluster_leases", "INSERT", "NEW.cluster_name = 'dev'");
    a_row_cannot_be_written(&trigger, "claim rows").await;
}

#[tokio::test]
async fn a_lease_that_cannot_be_released_expires() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    sql.run(&refusing(
        "cluster_leases",
        "DELETE",
        "OLD.cluster_name = 'dev'",
    ))
    .await;
    let daemon = quick(&database.url(), &host).start().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present running").await;
    let total = "kindler_refused_writes_total{controller=\"cluster\"}";
    eventually(TIMEOUT, "the refused release counted", || async {
        daemon.metric(total).await >= Some(1.0)
    })
    .await;
    sql.desire("dev", "stopped").await;
    sql.wait_state("dev", "stopped stopped").await;
    sql.run(ALLOW).await;
    converged(&sql, &host).await;
    assert_eq!(host.started("dev"), ["create", "stop"]);
}

/// The second step of the sandbox cannot be recorded.
#[tokio::test]
async fn a_step_that_cannot_be_recorded_is_shown() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let condition = "NEW.name = 'port' AND NEW.state = 'running'";
    sql.run(&refusing("cluster_steps", "INSERT", condition))
        .await;
    let _daemon = quick(&database.url(), &host)
        .set("KINDLER_DRIVER", "sandbox")
        .start()
        .await;
    sql.declare("dev").await;
    assert_shown(&sql, &database, &host, "not on Fridays").await;
    sql.run(ALLOW).await;
    sql.wait_state("dev", "present running").await;
    sql.desire("dev", "absent").await;
    sql.wait_state("dev", "gone").await;
}

/// A command prints what the encoding of the database cannot hold.
async fn an_encoding_lacks_characters(encoding: &str, stored: &str) {
    let database = Database::create_encoded(encoding).await.migrate().await;
    let (host, sql) = (Host::new(), database.connect().await);
    host.control(
        "dev.create",
        "echo 'na\u{ef}ve \u{2713} \u{4f60}\u{597d}'; exit 3",
    );
    let _daemon = quick(&database.url(), &host).start().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present failed").await;
    let error = sql.text("SELECT reconcile_error FROM clusters").await;
    assert!(error.contains("exited with code 3"), "{error}");
    assert!(error.contains(stored), "{error}");
    assert!(why(&sql).await.starts_with("CreateFailed"));
    let (events, _) = kindler_output(&database.url(), &host, &["events", "dev"]);
    assert!(events.contains("CreateFailed"), "{events}");

    host.release("dev.create");
    sql.wait_state("dev", "present running").await;
    converged(&sql, &host).await;
}

#[tokio::test]
async fn what_latin1_cannot_hold_is_replaced() {
    an_encoding_lacks_characters("LATIN1", "na\u{ef}ve ? ??").await;
}

#[tokio::test]
async fn a_declared_text_that_latin1_cannot_hold_is_422() {
    let database = Database::create_encoded("LATIN1").await.migrate().await;
    let host = Host::new();
    let daemon = quick(&database.url(), &host).start().await;
    let body = |note: &str| serde_json::json!({ "name": "dev", "provider": "k3d", "labels": { "note": note } });
    let http = Http::to(daemon.port());
    let refused = http.post("/api/clusters", body("\u{2713}")).await;
    let detail = refused.is(422).detail();
    assert!(detail.contains("the encoding of the database"), "{detail}");
    http.post("/api/clusters", body("na\u{ef}ve")).await.is(202);
}

#[tokio::test]
async fn sql_ascii_holds_every_text() {
    an_encoding_lacks_characters("SQL_ASCII", "na\u{ef}ve \u{2713} \u{4f60}\u{597d}").await;
}

/// A person's write that a trigger refuses is not a defect of the server.
#[tokio::test]
async fn a_persons_refused_write_names_the_trigger() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let trigger = refusing("clusters", "INSERT", "true").replace("kindler@%", "%");
    sql.run(&trigger).await;
    let (_, code) = kindler_output(&database.url(), &host, &["create", "dev"]);
    assert_eq!(code, Some(1));
    let daemon = quick(&database.url(), &host).start().await;
    let body = serde_json::json!({ "name": "dev", "provider": "k3d" });
    let answer = Http::to(daemon.port()).post("/api/clusters", body).await;
    let detail = answer.is(409).detail();
    assert!(detail.contains("not on Fridays"), "{detail}");
}
