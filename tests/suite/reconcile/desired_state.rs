//! A change of the desired state takes effect at once, also while a command runs.

use std::time::{Duration, Instant};

use super::rig;
use crate::kit::{Sql, TIMEOUT, eventually};

#[tokio::test]
async fn deleting_during_a_create_kills_the_process_tree() {
    let rig = rig().await;
    // The command ignores TERM, and its child has its own session, so a signal to the
    // process group would miss it.
    rig.host.control(
        "dev.create",
        r#"setsid sh -c 'echo $$ > "$0/live/child"; sleep 600' "$here" &
           trap '' TERM
           sleep 600"#,
    );
    rig.sql.declare("dev").await;
    let child = eventually(TIMEOUT, "the create to run", || async {
        let pid = std::fs::read_to_string(rig.host.path().join("live/child")).ok()?;
        pid.trim().parse::<i32>().ok()
    })
    .await;
    let began = Instant::now();
    rig.sql.desire("dev", "absent").await;
    rig.sql.wait_state("dev", "gone").await;
    // 2 s of grace, then KILL, then the delete.
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    assert!(
        !std::path::Path::new(&format!("/proc/{child}")).exists(),
        "the child still runs"
    );
    assert_eq!(rig.host.live_commands(), Vec::<i32>::new());
    assert_eq!(rig.host.started("dev"), ["create", "delete"]);
    rig.host.assert_one_at_a_time();
    let failed = rig
        .sql
        .text("SELECT count(*)::text FROM cluster_events WHERE to_state = 'failed'")
        .await;
    assert_eq!(failed, "0", "a cancelled create is not a failure");
}

#[tokio::test]
async fn a_lost_notification_is_noticed_by_the_next_renewal() {
    let rig = rig().await;
    rig.host.control("dev.create", "sleep 600");
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", "present creating").await;
    rig.sql.run("ALTER TABLE clusters DISABLE TRIGGER USER; UPDATE clusters SET desired_state = 'absent'; ALTER TABLE clusters ENABLE TRIGGER USER").await;
    rig.sql.wait_state("dev", "gone").await;
}

#[tokio::test]
async fn a_withdrawn_delete_finishes_and_the_cluster_is_recreated() {
    let rig = rig().await;
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", "present running").await;
    rig.host.control(
        "dev.delete",
        r#"while [ ! -e "$here/live/go" ]; do sleep 0.02; done"#,
    );
    rig.sql.desire("dev", "absent").await;
    rig.sql.wait_state("dev", "absent deleting").await;
    rig.host.wait_started("dev", &["create", "delete"]).await;
    rig.sql.desire("dev", "present").await;
    std::fs::write(rig.host.path().join("live/go"), "").unwrap();
    rig.sql.wait_state("dev", "present running").await;
    assert_eq!(rig.host.started("dev"), ["create", "delete", "create"]);
    rig.host.assert_one_at_a_time();
}

#[tokio::test]
async fn a_spec_changed_during_a_create_is_applied_after_it() {
    let rig = rig().await;
    rig.host.control(
        "dev.create",
        r#"while [ ! -e "$here/live/go" ]; do sleep 0.02; done"#,
    );
    rig.sql.declare("dev").await;
    rig.host.wait_started("dev", &["create"]).await;
    rig.sql.run("UPDATE clusters SET http_port = 18600").await;
    std::fs::write(rig.host.path().join("live/go"), "").unwrap();
    let applied = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running' AND observed_generation = 2 AND observed_spec_hash = spec_hash";
    rig.sql.wait_text(applied, "1").await;
    let journal = rig.host.journal();
    let generations: Vec<i64> = journal
        .iter()
        .filter(|e| e.what == "start")
        .map(|e| e.generation)
        .collect();
    assert_eq!(generations, [1, 2]);
    assert!(
        journal.iter().filter(|e| e.what == "end").count() == 2,
        "the first create must not be cancelled"
    );
}

#[tokio::test]
async fn random_changes_of_the_desired_state_converge() {
    let rig = rig().await;
    rig.host.control("create", "sleep 0.0$(( $$ % 9 ))");
    rig.host.control("delete", "sleep 0.0$(( $$ % 9 ))");
    let names: Vec<String> = (0..10).map(|n| format!("flip-{n}")).collect();
    for round in 0..6 {
        for (n, name) in names.iter().enumerate() {
            let desired = ["present", "absent", "stopped"][(round * 7 + n * 5) % 3];
            rig.sql.run(&format!(
                    "INSERT INTO clusters (name, provider, desired_state) VALUES ('{name}', 'k3d', '{desired}')
                     ON CONFLICT (name) DO UPDATE SET desired_state = excluded.desired_state"
                ))
                .await;
        }
        // The next changes arrive while a command runs.
        let running = "SELECT count(*)::text FROM cluster_leases";
        eventually(TIMEOUT, "a leased cluster", || async {
            rig.sql.text(running).await != "0"
        })
        .await;
    }
    for (n, name) in names.iter().enumerate() {
        let desired = ["present", "absent"][n % 2];
        rig.sql.run(&format!(
                "INSERT INTO clusters (name, provider, desired_state) VALUES ('{name}', 'k3d', '{desired}')
                 ON CONFLICT (name) DO UPDATE SET desired_state = excluded.desired_state"
            ))
            .await;
    }
    for (n, name) in names.iter().enumerate() {
        let (end, cluster) = [("present running", Some("healthy")), ("gone", None)][n % 2];
        rig.sql.wait_state(name, end).await;
        assert_eq!(rig.host.cluster(name).as_deref(), cluster, "{name}");
    }
    rig.host.assert_one_at_a_time();
    assert_eq!(rig.host.live_commands(), Vec::<i32>::new());
}

#[tokio::test]
async fn a_pause_during_the_observation_prevents_the_delete() {
    let rig = rig().await;
    rig.host.set_cluster("dev", Some("healthy"));
    let (observing, go) = (
        rig.host.path().join("live/observing"),
        rig.host.path().join("live/go"),
    );
    rig.host.control(
        "probe",
        r#"touch "$here/live/observing"; while [ ! -e "$here/live/go" ]; do sleep 0.05; done"#,
    );
    rig.sql
        .run("INSERT INTO clusters (name, provider, desired_state, adopt_requested_at) VALUES ('dev', 'k3d', 'absent', now())")
        .await;
    eventually(TIMEOUT, "the observation", || async { observing.exists() }).await;
    rig.sql.run("UPDATE clusters SET paused = true").await;
    std::fs::write(go, "").unwrap();
    let reason = "SELECT status_reason FROM clusters";
    rig.sql.wait_text(reason, "Paused").await;
    rig.daemon.full_passes(2).await;
    assert_eq!(rig.host.started("dev"), Vec::<String>::new());
    assert_eq!(rig.sql.state("dev").await, "absent running");
}
