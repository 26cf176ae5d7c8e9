//! Faulty commands: they report a false result, hang, write their own row, or do not
//! exist.

use std::time::Duration;

use super::{ReconcileRig, rig, rig_on};
use crate::faults::{report, rounds};
use crate::kit::{Daemon, Host, Sql, TIMEOUT, eventually, migrated};

#[tokio::test]
async fn the_observation_decides_and_not_the_exit_code() {
    let rig = rig().await;
    rig.host.control("lying.create", "exit 0");
    rig.host.control(
        "failing.create",
        r#"echo healthy > "$here/clusters/$name"; exit 1"#,
    );
    rig.sql.declare("lying").await;
    rig.sql.declare("failing").await;
    rig.sql.wait_state("lying", "present failed").await;
    let error = rig
        .sql
        .text("SELECT reconcile_error FROM clusters WHERE name = 'lying'")
        .await;
    assert!(
        error.contains("reported success, but the cluster does not exist: `")
            && error.contains("exists.sh lying k3d` exited with code 1"),
        "{error}"
    );
    rig.sql.wait_state("failing", "present running").await;
    let message = rig.sql.text("SELECT message FROM cluster_events WHERE cluster_name = 'failing' AND reason = 'CreatedWithWarning'")
        .await;
    assert!(
        message.contains("the probe succeeded, although") && message.contains("code 1"),
        "{message}"
    );

    rig.host.control("failing.delete", "exit 0");
    rig.sql.desire("failing", "absent").await;
    rig.sql.wait_state("failing", "absent failed").await;
    assert_eq!(
        rig.host.cluster("failing").as_deref(),
        Some("healthy"),
        "the cluster must still exist"
    );
    rig.host
        .control("failing.delete", r#"rm "$here/clusters/$name"; exit 1"#);
    rig.sql.wait_state("failing", "gone").await;
}

#[tokio::test]
async fn a_hanging_command_ends_at_its_deadline() {
    let (database, host) = (migrated().await, Host::new());
    host.control("dev.create", "trap '' TERM; sleep 600");
    let _daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_CREATE_DEADLINE", "1s")
        .set("KINDLER_KILL_GRACE", "1s")
        .set("KINDLER_BACKOFF_INITIAL", "1m")
        .set("KINDLER_BACKOFF_MAX", "1m")
        .start()
        .await;
    let sql = database.connect().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present failed").await;
    let error = sql.text("SELECT reconcile_error FROM clusters").await;
    assert!(error.contains("deadline"), "{error}");
    assert_eq!(host.live_commands(), Vec::<i32>::new());
}

#[tokio::test]
async fn scripts_may_write_and_delete_their_own_row() {
    let database = migrated().await;
    let host = Host::new();
    let socket = database.url();
    let upsert = "INSERT INTO clusters (name, provider, subnet, node_port, pf_port, http_port, https_port, server_ip)
        VALUES ('$name', 'k3d', NULL, 30080, 19000, 18080, 18443, '10.1.2.3')
        ON CONFLICT (name) DO UPDATE SET provider = excluded.provider, http_port = excluded.http_port,
            server_ip = excluded.server_ip, updated_at = now()";
    host.control(
        "create",
        &format!("psql -qX '{socket}' -c \"{upsert}\" || exit 9"),
    );
    host.control(
        "delete",
        &format!("psql -qX '{socket}' -c \"DELETE FROM clusters WHERE name = '$name'\" || exit 9"),
    );
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present running").await;
    assert_eq!(
        sql.text(
            "SELECT server_ip || ' ' || generation || ' ' || observed_generation FROM clusters"
        )
        .await,
        "10.1.2.3 1 1"
    );
    // A person deletes the row with psql, and the script deletes it once more.
    sql.run("DELETE FROM clusters WHERE name = 'dev'").await;
    sql.wait_state("dev", "gone").await;
    assert_eq!(host.cluster("dev"), None);
    assert_eq!(host.started("dev"), ["create", "delete"]);
    drop(daemon);
}

/// The commands of a cluster, which change the spec of its own row each time.
async fn rewrites_its_row(end: &str, verbs: &[&str]) -> (ReconcileRig, usize) {
    let (database, host) = (migrated().await, Host::new());
    let rewrite = "UPDATE clusters SET http_port = 20000 + nextval('counted') WHERE name = '$name'";
    let shell = format!(
        "psql -qX '{}' -c \"{rewrite}\" || exit 9\n{end}",
        database.url()
    );
    verbs.iter().for_each(|verb| host.control(verb, &shell));
    let sql = database.connect().await;
    sql.run("CREATE SEQUENCE counted").await;
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_BACKOFF_INITIAL", "1s")
        .set("KINDLER_BACKOFF_MAX", "1m")
        .start()
        .await;
    let rig = ReconcileRig {
        database,
        host,
        daemon,
        sql,
    };
    rig.sql.declare("dev").await;
    watch().await;
    let count = rig.host.started("dev").len();
    (rig, count)
}

/// For how long commands that change their row are counted.
fn watched() -> Duration {
    Duration::from_secs(rounds(10, 120).try_into().unwrap())
}

async fn watch() {
    let began = std::time::Instant::now();
    eventually(watched() * 2, "the end of a watch", || async {
        began.elapsed() > watched()
    })
    .await;
}

/// How many commands may run meanwhile: the delays are 1, 2, 4 s and so on, each with a
/// jitter, up to a minute.
fn assert_slowed_down(what: &str, count: usize, least: usize) {
    let most = least + rounds(3, 8);
    assert!(
        (least..=most).contains(&count),
        "{count} {what} in {:?}",
        watched()
    );
    report(
        &format!("{what} that change their own row"),
        &format!("{count} in {:?}", watched()),
    );
}

#[tokio::test]
async fn a_create_that_changes_its_own_row_is_slowed_down() {
    let (rig, count) = rewrites_its_row("", &["create"]).await;
    // At 0 s, at once, then after 1, 2, 4 and 8 s.
    assert_slowed_down("creates", count, 3);
    eventually(TIMEOUT, "the reason in the row", || async {
        rig.sql.text("SELECT status_reason FROM clusters").await == "ChangeDeferred"
    })
    .await;
    let message = rig.sql.text("SELECT status_message FROM clusters").await;
    assert!(
        message.contains("its spec changed while its command ran"),
        "{message}"
    );
    rig.sql.wait_state("dev", "present running").await;
    let events = "SELECT count(*) FROM cluster_events WHERE reason = 'ChangeDeferred'";
    assert!(rig.sql.number(events).await >= 1);
    let deferred = rig.daemon.metric("kindler_changes_deferred_total").await;
    assert!(deferred.is_some_and(|count| count >= 1.0), "{deferred:?}");

    // A change that a person makes while no command runs is applied at once, and the count
    // starts over.
    rig.host.release("create");
    rig.sql.run("UPDATE clusters SET http_port = 19999").await;
    eventually(TIMEOUT, "the applied change", || async {
        rig.sql.number("SELECT count(*) FROM clusters WHERE observed_spec_hash = spec_hash AND failed_attempts = 0").await == 1
    })
    .await;
}

#[tokio::test]
async fn a_failing_create_that_changes_its_row_backs_off() {
    let (rig, count) = rewrites_its_row("exit 1", &["create"]).await;
    assert_slowed_down("failing creates", count, 2);
    rig.sql.wait_state("dev", "present failed").await;
    assert!(
        rig.sql
            .number("SELECT failed_attempts::int8 FROM clusters")
            .await
            >= 2
    );
}

#[tokio::test]
async fn a_failing_delete_that_changes_its_row_backs_off() {
    let (rig, _) = rewrites_its_row("exit 1", &["delete"]).await;
    rig.sql.wait_state("dev", "present running").await;
    let before = rig.host.started("dev").len();
    rig.sql.desire("dev", "absent").await;
    watch().await;
    let count = rig.host.started("dev").len() - before;
    assert_slowed_down("failing deletes", count, 2);
    rig.host.release("delete");
    rig.sql
        .run("UPDATE clusters SET retry_requested_at = now()")
        .await;
    rig.sql.wait_state("dev", "gone").await;
}

#[tokio::test]
async fn a_missing_script_is_reported_at_start_and_on_the_row() {
    let (database, host) = (migrated().await, Host::new());
    let missing = host.path().join("nowhere/create_env.sh");
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_CREATE_COMMAND", &missing)
        .start()
        .await;
    let log = daemon.log();
    assert!(
        log.contains("KINDLER_CREATE_COMMAND") && log.contains("create_env.sh"),
        "{log}"
    );
    let sql = database.connect().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present failed").await;
    let error = sql.text("SELECT reconcile_error FROM clusters").await;
    assert!(
        error.contains("create_env.sh") && error.contains("KINDLER_CREATE_COMMAND"),
        "{error}"
    );
    let wait = "SELECT (extract(epoch FROM next_attempt_at - now()) > 1)::text FROM clusters";
    assert_eq!(sql.text(wait).await, "true", "a quick retry is of no use");
}

#[tokio::test]
async fn much_output_and_a_forked_process_do_no_harm() {
    let host = Host::new();
    host.control(
        "loud.create",
        "head -c 300000000 /dev/zero | tr '\\0' x >&2",
    );
    host.control("forks.create", "setsid sleep 600 & ");
    let rig = rig_on(host).await;
    rig.sql.declare("loud").await;
    rig.sql.declare("forks").await;
    rig.sql.wait_state("forks", "present running").await;
    eventually(
        Duration::from_secs(60),
        "the cluster with much output",
        || async { rig.sql.state("loud").await == "present running" },
    )
    .await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.daemon.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 100_000, "{kilobytes} kB");
    let logs: u64 = std::fs::read_dir(rig.host.state_dir().join("logs"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(logs < 20_000_000, "{logs} bytes of logs");
    rig.host.wait_commands(0).await;
}
