//! Changes that are made during a step take effect before the next step begins.

use std::fs;

use super::rig::{STEPS_TIMEOUT, StepsRig};
use crate::kit::{Sql, eventually};

#[tokio::test]
async fn no_step_is_repaired_while_the_row_is_paused() {
    let rig = StepsRig::new().await;
    let daemon = rig.daemon();
    rig.declare_and_wait().await;
    rig.sql.run("UPDATE clusters SET paused = true").await;
    rig.wait_state("running Paused").await;
    let before = rig.steps().await;
    fs::remove_file(rig.about()).unwrap();
    fs::remove_file(rig.claim()).unwrap();
    daemon.full_passes(3).await;
    assert_eq!(rig.steps().await, before, "a step ran while paused");
    assert!(!rig.about().exists());
    rig.sql.run("UPDATE clusters SET paused = false").await;
    eventually(STEPS_TIMEOUT, "the repair", || async {
        rig.about().exists()
    })
    .await;
    rig.wait_running().await;
    assert_eq!(rig.steps().await["folder"], before["folder"]);
    rig.assert_one_node();
}

#[tokio::test]
async fn a_pause_lets_the_running_step_end_and_starts_no_other() {
    let rig = StepsRig::new().await;
    let daemon = rig
        .builder()
        .set("KINDLER_SANDBOX_CREATE_DELAY", "6s")
        .spawn();
    rig.declare().await;
    rig.wait_step("port", "running").await;
    rig.sql.run("UPDATE clusters SET paused = true").await;
    rig.wait_step("port", "done").await;
    let before = rig.steps().await;
    assert!(!before.contains_key("process"), "{before:?}");
    daemon.full_passes(3).await;
    assert_eq!(rig.steps().await, before, "a step ran while paused");
    assert!(rig.nodes().is_empty());
    assert!(rig.state().await.ends_with(" Paused"));
    daemon.kill();
    let _quick = rig.daemon();
    rig.sql.run("UPDATE clusters SET paused = false").await;
    rig.wait_running().await;
    let after = rig.steps().await;
    for name in ["folder", "port"] {
        assert_eq!(before[name].started, after[name].started, "{name}");
    }
    assert_eq!(after["process"].attempt, 1);
    rig.assert_one_node();
}

#[tokio::test]
async fn a_changed_spec_stops_the_run_at_the_next_step() {
    let mut rig = StepsRig::new().await;
    let _daemon = rig
        .builder()
        .set("KINDLER_SANDBOX_CREATE_DELAY", "6s")
        .spawn();
    rig.declare().await;
    rig.wait_step("port", "running").await;
    let folder = rig.steps().await["folder"].clone();
    let old = rig.change_port().await;
    rig.wait_running().await;
    assert_eq!(rig.steps().await["folder"].started, folder.started);
    rig.assert_one_node();
    let old = rig.sandbox().join(".ports").join(old.number.to_string());
    assert!(
        fs::symlink_metadata(old).is_err(),
        "the old port claim still exists"
    );
    // No node was started for the old port.
    let started = "SELECT count(*)::text FROM cluster_events WHERE kind = 'step' AND message LIKE 'step process: applied%'";
    assert_eq!(rig.sql.text(started).await, "1");
}

#[tokio::test]
async fn a_delete_cancels_the_running_step() {
    let rig = StepsRig::new().await;
    let _daemon = rig
        .builder()
        .set("KINDLER_SANDBOX_CREATE_DELAY", "1h")
        .spawn();
    rig.declare().await;
    rig.wait_step("folder", "running").await;
    rig.delete().await;
    rig.wait_removed().await;
    rig.assert_nothing_left().await;
}

#[tokio::test]
async fn a_delete_between_steps_removes_what_was_made() {
    let rig = StepsRig::new().await;
    let _daemon = rig
        .builder()
        .set("KINDLER_SANDBOX_CREATE_DELAY", "9s")
        .spawn();
    rig.declare().await;
    rig.wait_step("process", "running").await;
    assert!(fs::symlink_metadata(rig.claim()).is_ok());
    rig.delete().await;
    rig.wait_removed().await;
    rig.assert_nothing_left().await;
}
