//! Failures are visible and backed off in the row; the backoff survives a restart and
//! ends with a new spec. Failing rows do not delay others.

use std::time::Duration;

use super::rig;
use crate::kit::{Daemon, Host, Sql, TIMEOUT, eventually, kindler_output, migrated};

#[tokio::test]
async fn a_failure_is_visible_and_a_requested_retry_runs_at_once() {
    let host = Host::new();
    host.control(
        "dev.create",
        "echo pulling image; echo no space left on device >&2; exit 3",
    );
    let database = migrated().await;
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_BACKOFF_INITIAL", "1m")
        .set("KINDLER_BACKOFF_MAX", "1m")
        .start()
        .await;
    let sql = database.connect().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present failed").await;

    let error = sql.text("SELECT reconcile_error FROM clusters").await;
    for part in [
        "create.sh",
        "exited with code 3",
        "no space left on device",
        "dev.log",
    ] {
        assert!(error.contains(part), "{part} is missing in {error}");
    }
    let output = |args: &[&str]| kindler_output(&database.url(), &host, args).0;
    let list = output(&["list", "-o", "json"]);
    assert!(list.contains("exited with code 3"), "{list}");
    assert!(output(&["get", "dev"]).contains("no space left on device"));
    assert!(output(&["events", "dev"]).contains("CreateFailed"));
    assert!(output(&["logs", "dev"]).contains("pulling image"));
    let failures = r#"kindler_cluster_consecutive_failures{name="dev"}"#;
    assert_eq!(daemon.metric(failures).await, Some(1.0));
    let reason = r#"kindler_cluster_status_reason{name="dev",reason="CreateFailed"}"#;
    assert_eq!(daemon.metric(reason).await, Some(1.0));
    let next = daemon
        .metric(r#"kindler_cluster_next_retry_timestamp_seconds{name="dev"}"#)
        .await;
    assert!(next.unwrap() > 1.7e9);
    assert_eq!(
        daemon
            .metric(r#"kindler_action_total{action="create",result="failure"}"#)
            .await,
        Some(1.0)
    );

    host.release("dev.create");
    let (retry, code) = kindler_output(&database.url(), &host, &["retry", "dev", "--wait"]);
    assert_eq!(code, Some(0), "{retry}");
    assert_eq!(sql.state("dev").await, "present running");
    assert_eq!(sql.text("SELECT reconcile_error FROM clusters").await, "");
    assert_eq!(
        daemon.metric(failures).await,
        None,
        "the series must end with the failure"
    );
}

#[tokio::test]
async fn backoff_survives_a_restart_and_ends_with_a_new_spec() {
    let host = Host::new();
    host.control("dev.create", "exit 1");
    let database = migrated().await;
    let start = || {
        Daemon::builder(&database.url(), &host)
            .set("KINDLER_BACKOFF_INITIAL", "30s")
            .set("KINDLER_BACKOFF_MAX", "1m")
            .spawn()
    };
    let sql = database.connect().await;
    let daemon = start();
    daemon.ready().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present failed").await;
    let row = "SELECT failed_attempts || ' ' || next_attempt_at FROM clusters";
    let before = sql.text(row).await;
    daemon.kill();
    let daemon = start();
    daemon.ready().await;
    // It works on other rows, so a pass has run, and it did not retry the waiting
    // one.
    sql.declare("other").await;
    sql.wait_state("other", "present running").await;
    assert_eq!(
        sql.text(
            "SELECT failed_attempts || ' ' || next_attempt_at FROM clusters WHERE name = 'dev'"
        )
        .await,
        before
    );
    assert_eq!(host.started("dev"), ["create"]);
    sql.run("UPDATE clusters SET http_port = 18500 WHERE name = 'dev'")
        .await;
    host.wait_started("dev", &["create", "create"]).await;
}

#[tokio::test]
async fn delays_double_and_attempts_are_counted() {
    let rig = rig().await;
    // The command takes longer than the first delay: delays count from its end.
    rig.host.control(
        "dev.create",
        r#"date +%s.%N >> "$here/times"; sleep 0.5; date +%s.%N >> "$here/times"; exit 1"#,
    );
    rig.sql.declare("dev").await;
    let attempts = "SELECT failed_attempts::text FROM clusters";
    eventually(TIMEOUT, "four attempts", || async {
        rig.sql.text(attempts).await.parse::<u32>().unwrap() >= 4
    })
    .await;
    let times = std::fs::read_to_string(rig.host.path().join("times")).unwrap();
    let times: Vec<f64> = times.lines().map(|line| line.parse().unwrap()).collect();
    // 0.2 s, 0.4 s, 0.8 s, each shortened by up to a fifth.
    for (n, least) in [0.16, 0.32, 0.64].into_iter().enumerate() {
        let waited = times[2 * n + 2] - times[2 * n + 1];
        assert!(waited >= least, "attempt {} came after {waited} s", n + 2);
    }
    let journal = rig.host.journal();
    let numbers: Vec<u32> = journal
        .iter()
        .filter(|e| e.what == "start")
        .map(|e| e.attempt)
        .take(4)
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[tokio::test]
async fn failing_rows_do_not_delay_others() {
    let host = Host::new();
    host.control("create", r#"case "$name" in bad-*) exit 1 ;; esac"#);
    let database = migrated().await;
    let sql = database.connect().await;
    sql.run("INSERT INTO clusters (name, provider) SELECT 'bad-' || n, 'k3d' FROM generate_series(1, 200) n;
         ALTER TABLE clusters DISABLE TRIGGER USER;
         ALTER TABLE clusters DROP CONSTRAINT clusters_name_is_a_label, DROP CONSTRAINT clusters_http_port_1_to_65535;
         INSERT INTO clusters (name, provider, pf_port, http_port, https_port) SELECT 'Unreadable ' || n, 'k3d', 30000 + n, 0, 31000 + n FROM generate_series(1, 100) n;
         ALTER TABLE clusters ENABLE TRIGGER USER",
    )
    .await;
    let daemon = Daemon::start(&database, &host).await;
    sql.declare("good").await;
    let began = std::time::Instant::now();
    sql.wait_state("good", "present running").await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "delayed for {:?}",
        began.elapsed()
    );
    let shown = "SELECT count(*)::text FROM clusters WHERE status_reason = 'RowInvalid' AND reconcile_error LIKE '%is not valid%'";
    let all = Duration::from_secs(60);
    eventually(all, "the reason on every unreadable row", || async {
        sql.text(shown).await == "100"
    })
    .await;
    let panics = daemon
        .metric(r#"kindler_reconcile_panics_total{controller="cluster"}"#)
        .await;
    assert_eq!(panics, Some(0.0));
}

#[tokio::test]
async fn an_unreadable_row_says_what_mends_it_and_it_acts_at_once() {
    let host = Host::new();
    let database = migrated().await;
    let sql = database.connect().await;
    let _daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_BACKOFF_INITIAL", "600s")
        .set("KINDLER_BACKOFF_MAX", "600s")
        .start()
        .await;
    sql.run(
        "DO $$ DECLARE rule name; BEGIN
             FOR rule IN SELECT conname FROM pg_constraint WHERE conrelid = 'clusters'::regclass AND contype = 'c' LOOP
                 EXECUTE format('ALTER TABLE clusters DROP CONSTRAINT %I', rule);
             END LOOP;
         END $$",
    )
    .await;
    for (name, value) in [
        ("a", "http_port = 0"),
        ("b", "actual_state = 'gone'"),
        ("c", "desired_state = 'lost'"),
        ("d", "last_healthy_at = 'infinity'"),
    ] {
        sql.declare(name).await;
        sql.wait_state(name, "present running").await;
        sql.run(&format!(
            "ALTER TABLE clusters DISABLE TRIGGER USER;
             UPDATE clusters SET {value} WHERE name = '{name}';
             ALTER TABLE clusters ENABLE TRIGGER USER;
             UPDATE clusters SET retry_requested_at = now() WHERE name = '{name}'"
        ))
        .await;
        let message = format!(
            "SELECT status_message FROM clusters WHERE name = '{name}' AND status_reason = 'RowInvalid'"
        );
        let text = format!("SELECT coalesce(({message}), '')");
        let said = eventually(TIMEOUT, "the row to be reported", || async {
            let said = sql.text(&text).await;
            (!said.is_empty()).then_some(said)
        })
        .await;
        let (_, statement) = said.split_once("; to mend it: ").expect(&said);
        let before = format!(
            "SELECT (next_attempt_at > now() + interval '5 s')::text FROM clusters WHERE name = '{name}'"
        );
        assert_eq!(
            sql.text(&before).await,
            "true",
            "it waits for its next attempt"
        );
        sql.run(statement).await;
        let mended = std::time::Instant::now();
        sql.wait_state(name, "present running").await;
        assert!(
            mended.elapsed() < Duration::from_secs(5),
            "{name}: {:?}",
            mended.elapsed()
        );
    }
}
