//! Commands as hosts have them: they lie, hang, edit their own row, go missing.

use std::time::Duration;

use super::{SOON, insert, migrated, run, scene, scene_on, text, until};
use crate::kit::{Daemon, Host, eventually};

#[tokio::test]
async fn the_result_is_judged_by_observation_and_not_by_the_exit_code() {
    let scene = scene().await;
    scene.host.control("liar.create", "exit 0");
    scene.host.control(
        "modest.create",
        r#"echo healthy > "$here/world/$name"; exit 1"#,
    );
    scene.run(&insert("liar")).await;
    scene.run(&insert("modest")).await;
    scene.until("liar", "present failed").await;
    let error = scene
        .text("SELECT reconcile_error FROM clusters WHERE name = 'liar'")
        .await;
    assert!(
        error.contains("reported success, but the cluster does not exist"),
        "{error}"
    );
    scene.until("modest", "present running").await;
    let told = scene
        .text("SELECT message FROM cluster_events WHERE cluster_name = 'modest' AND reason = 'CreatedWithWarning'")
        .await;
    assert!(
        told.contains("the probe succeeded, although") && told.contains("code 1"),
        "{told}"
    );

    scene.host.control("modest.delete", "exit 0");
    scene
        .run("UPDATE clusters SET desired_state = 'absent' WHERE name = 'modest'")
        .await;
    scene.until("modest", "absent failed").await;
    assert_eq!(
        scene.host.world("modest").as_deref(),
        Some("healthy"),
        "still there, and so is its row"
    );
    scene
        .host
        .control("modest.delete", r#"rm "$here/world/$name"; exit 1"#);
    scene.until("modest", "gone").await;
}

#[tokio::test]
async fn a_hanging_command_ends_at_its_deadline() {
    let (database, host) = (migrated().await, Host::new());
    host.control("dev.create", "trap '' TERM; sleep 600");
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_CREATE_DEADLINE", "1s")
        .set("KINDLER_KILL_GRACE", "1s")
        .set("KINDLER_BACKOFF_INITIAL", "1m")
        .set("KINDLER_BACKOFF_MAX", "1m")
        .spawn();
    daemon.ready().await;
    let sql = database.connect().await;
    run(&sql, &insert("dev")).await;
    until(&sql, "dev", "present failed").await;
    let error = text(&sql, "SELECT reconcile_error FROM clusters").await;
    assert!(error.contains("deadline"), "{error}");
    assert_eq!(host.live_commands(), Vec::<i32>::new());
}

#[tokio::test]
async fn the_old_scripts_may_write_and_delete_their_own_row() {
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
    run(&sql, &insert("dev")).await;
    until(&sql, "dev", "present running").await;
    assert_eq!(
        text(
            &sql,
            "SELECT server_ip || ' ' || generation || ' ' || observed_generation FROM clusters"
        )
        .await,
        "10.1.2.3 1 1"
    );
    // A person deletes the row with psql, and the script does once more.
    run(&sql, "DELETE FROM clusters WHERE name = 'dev'").await;
    until(&sql, "dev", "gone").await;
    assert_eq!(host.world("dev"), None);
    assert_eq!(host.started("dev"), ["create", "delete"]);
    drop(daemon);
}

#[tokio::test]
async fn a_missing_script_is_told_at_start_and_on_the_row() {
    let (database, host) = (migrated().await, Host::new());
    let missing = host.path().join("nowhere/create_env.sh");
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_CREATE_COMMAND", &missing)
        .spawn();
    daemon.ready().await;
    let log = daemon.log();
    assert!(
        log.contains("KINDLER_CREATE_COMMAND") && log.contains("create_env.sh"),
        "{log}"
    );
    let sql = database.connect().await;
    run(&sql, &insert("dev")).await;
    until(&sql, "dev", "present failed").await;
    let error = text(&sql, "SELECT reconcile_error FROM clusters").await;
    assert!(
        error.contains("create_env.sh") && error.contains("KINDLER_CREATE_COMMAND"),
        "{error}"
    );
    let wait = "SELECT (extract(epoch FROM next_attempt_at - now()) > 1)::text FROM clusters";
    assert_eq!(text(&sql, wait).await, "true", "no quick retry can mend it");
}

#[tokio::test]
async fn a_flood_of_output_and_a_forked_daemon_do_no_harm() {
    let host = Host::new();
    host.control(
        "loud.create",
        "head -c 300000000 /dev/zero | tr '\\0' x >&2",
    );
    host.control("forks.create", "setsid sleep 600 & ");
    let scene = scene_on(host).await;
    scene.run(&insert("loud")).await;
    scene.run(&insert("forks")).await;
    scene.until("forks", "present running").await;
    eventually(Duration::from_secs(60), "the loud one", || async {
        scene.state("loud").await == "present running"
    })
    .await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", scene.daemon.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 100_000, "{kilobytes} kB");
    let logs: u64 = std::fs::read_dir(scene.host.state_dir().join("logs"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(logs < 20_000_000, "{logs} bytes of logs");
    eventually(SOON, "no command to live", || async {
        scene.host.live_commands().is_empty()
    })
    .await;
}
