//! A stop removes the steps of the process and keeps the others, and the records say
//! so.

use super::STEPS;
use super::rig::StepsRig;
use crate::kit::Sql;

async fn start(rig: &StepsRig) {
    rig.sql
        .run("UPDATE clusters SET desired_state = 'present'")
        .await;
    rig.wait_running().await;
}

#[tokio::test]
async fn a_stop_removes_the_process_and_keeps_the_rest() {
    let rig = StepsRig::new().await;
    let daemon = rig.daemon();
    rig.declare_and_wait().await;
    let made = rig.steps().await;
    rig.stop_cluster().await;
    rig.wait_stopped().await;
    assert!(rig.nodes().is_empty());
    let now = rig.steps().await;
    for name in STEPS {
        if matches!(name, "process" | "ready") {
            assert_eq!(now[name].state, "removed", "{name}");
        } else {
            assert_eq!(now[name], made[name], "{name}");
        }
    }
    // Nothing happens to it until it is declared present again.
    daemon.full_passes(2).await;
    assert_eq!(rig.steps().await, now);
    start(&rig).await;
    let again = rig.steps().await;
    assert_eq!(again["folder"], made["folder"]);
    assert_eq!(again["port"].started, made["port"].started);
    rig.assert_one_node();

    rig.stop_cluster().await;
    rig.wait_stopped().await;
    rig.delete().await;
    rig.wait_removed().await;
    rig.assert_nothing_left().await;
}

#[tokio::test]
async fn an_interrupted_stop_is_resumed() {
    let rig = StepsRig::new().await;
    let first = rig
        .builder()
        .set("KINDLER_SANDBOX_DELETE_DELAY", "1h")
        .spawn();
    rig.declare_and_wait().await;
    rig.stop_cluster().await;
    rig.wait_step("process", "removing").await;
    assert_eq!(rig.steps().await["ready"].state, "removed");
    assert_eq!(rig.nodes().len(), 1);
    first.kill();
    let _successor = rig.daemon();
    rig.wait_stopped().await;
    assert_eq!(rig.steps().await["process"].state, "removed");
    assert!(rig.nodes().is_empty());
    start(&rig).await;
    rig.assert_one_node();
}

/// A row at rest has no step that is recorded as in progress.
async fn assert_nothing_in_progress(rig: &StepsRig) {
    let in_progress = "SELECT coalesce(string_agg(name || ' ' || state, ', '), '') FROM cluster_steps \
                       WHERE state IN ('running', 'removing')";
    assert_eq!(rig.sql.text(in_progress).await, "");
}

#[tokio::test]
async fn a_stop_during_a_create_leaves_no_step_in_progress() {
    for step in ["folder", "port"] {
        let rig = StepsRig::new().await;
        let daemon = rig
            .builder()
            .set("KINDLER_SANDBOX_HANG", format!("dev:{step}"))
            .spawn();
        rig.declare().await;
        rig.wait_step(step, "running").await;
        rig.stop_cluster().await;
        rig.wait_stopped().await;
        assert_nothing_in_progress(&rig).await;
        let cut = rig.steps().await.remove(step).unwrap();
        assert_eq!((&*cut.state, &*cut.reason), ("failed", "Interrupted"));
        daemon.kill();
        let _successor = rig.daemon();
        start(&rig).await;
        rig.assert_one_node();
    }
}

#[tokio::test]
async fn a_withdrawn_stop_leaves_every_step_done() {
    let rig = StepsRig::new().await;
    let _daemon = rig
        .builder()
        .set("KINDLER_SANDBOX_DELETE_DELAY", "1h")
        .spawn();
    rig.declare_and_wait().await;
    rig.stop_cluster().await;
    rig.wait_step("process", "removing").await;
    // No health check is due; the withdrawal alone corrects the records.
    start(&rig).await;
    assert_nothing_in_progress(&rig).await;
    rig.assert_one_node();
}

/// Opening a pipe in the place of a file would block the daemon.
#[tokio::test]
async fn a_pipe_instead_of_a_file_blocks_no_daemon() {
    let rig = StepsRig::new().await;
    let daemon = rig.daemon();
    rig.declare_and_wait().await;
    let mark = rig.folder().join("stopped");
    let made = std::process::Command::new("mkfifo").arg(&mark).status();
    assert!(made.unwrap().success());
    rig.stop_cluster().await;
    // What cannot be written is reported; that the cluster is stopped is observed.
    let failed = rig.wait_step("process", "failed").await;
    assert!(failed.message.contains("not a regular file"), "{failed:?}");
    rig.wait_stopped().await;
    assert_eq!(daemon.get("/healthz").await.unwrap().0, 200);
    assert!(rig.nodes().is_empty());
}
