//! A stop takes away what runs and keeps the rest; the records say which is which.

use super::STEPS;
use super::rig::{Rig, SOON};
use crate::kit::eventually;

async fn stopped(rig: &Rig) {
    rig.stop_cluster().await;
    eventually(SOON, "the stop", || async {
        rig.state().await.starts_with("stopped ")
    })
    .await;
}

async fn start(rig: &Rig) {
    rig.run("UPDATE clusters SET desired_state = 'present'")
        .await;
    rig.running().await;
}

#[tokio::test]
async fn a_stop_removes_what_runs_and_keeps_the_rest() {
    let rig = Rig::new().await;
    let daemon = rig.daemon();
    rig.made().await;
    let made = rig.steps().await;
    stopped(&rig).await;
    assert!(rig.nodes().is_empty());
    let now = rig.steps().await;
    for name in STEPS {
        if matches!(name, "process" | "ready") {
            assert_eq!(now[name].state, "removed", "{name}");
        } else {
            assert_eq!(now[name], made[name], "{name}");
        }
    }
    // Nothing acts on it until it is declared present again.
    daemon.full_passes(2).await;
    assert_eq!(rig.steps().await, now);
    start(&rig).await;
    let again = rig.steps().await;
    assert_eq!(again["folder"], made["folder"]);
    assert_eq!(again["port"].started, made["port"].started);
    rig.assert_one_node();

    stopped(&rig).await;
    rig.delete().await;
    rig.gone().await;
    rig.assert_nothing_left().await;
}

#[tokio::test]
async fn a_stop_that_was_killed_is_resumed() {
    let rig = Rig::new().await;
    let first = rig
        .builder()
        .set("KINDLER_SANDBOX_DELETE_DELAY", "1h")
        .spawn();
    rig.made().await;
    rig.stop_cluster().await;
    rig.until_step("process", "removing").await;
    assert_eq!(rig.steps().await["ready"].state, "removed");
    assert_eq!(rig.nodes().len(), 1);
    first.kill();
    let _successor = rig.daemon();
    eventually(SOON, "the stop", || async {
        rig.state().await.starts_with("stopped ")
    })
    .await;
    assert_eq!(rig.steps().await["process"].state, "removed");
    assert!(rig.nodes().is_empty());
    start(&rig).await;
    rig.assert_one_node();
}

/// A row at rest has no step that is recorded as under way.
async fn assert_nothing_under_way(rig: &Rig) {
    let under_way = "SELECT string_agg(name || ' ' || state, ', ') FROM cluster_steps WHERE state IN ('running', 'removing')";
    assert_eq!(rig.text(under_way).await, "");
}

#[tokio::test]
async fn a_stop_in_a_create_leaves_no_step_under_way() {
    for step in ["folder", "port"] {
        let rig = Rig::new().await;
        let daemon = rig
            .builder()
            .set("KINDLER_SANDBOX_HANG", format!("dev:{step}"))
            .spawn();
        rig.declare().await;
        rig.until_step(step, "running").await;
        stopped(&rig).await;
        assert_nothing_under_way(&rig).await;
        let cut = rig.steps().await.remove(step).unwrap();
        assert_eq!((&*cut.state, &*cut.reason), ("failed", "Interrupted"));
        daemon.kill();
        let _successor = rig.daemon();
        start(&rig).await;
        rig.assert_one_node();
    }
}

#[tokio::test]
async fn a_stop_that_is_withdrawn_leaves_every_step_done() {
    let rig = Rig::new().await;
    let _daemon = rig
        .builder()
        .set("KINDLER_SANDBOX_DELETE_DELAY", "1h")
        .spawn();
    rig.made().await;
    rig.stop_cluster().await;
    rig.until_step("process", "removing").await;
    // No health check is due; the withdrawal alone puts the records right.
    start(&rig).await;
    assert_nothing_under_way(&rig).await;
    rig.assert_one_node();
}
