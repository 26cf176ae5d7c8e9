//! A step that hangs, at each point, in each direction: its deadline ends it, the
//! row names it, and a daemon without the fault goes on from there.

use super::STEPS;
use super::rig::{Rig, SOON};
use crate::kit::{Daemon, claim_port, eventually};

/// A daemon under which this step of `dev` hangs in every action until its deadline.
fn hanging(rig: &Rig, step: &str) -> Daemon {
    rig.builder()
        .set("KINDLER_SANDBOX_HANG", format!("dev:{step}"))
        .set("KINDLER_CREATE_DEADLINE", "2s")
        .set("KINDLER_DELETE_DEADLINE", "2s")
        .set("KINDLER_BACKOFF_INITIAL", "1h")
        .set("KINDLER_BACKOFF_MAX", "1h")
        .spawn()
}

async fn message(rig: &Rig) -> String {
    rig.text("SELECT status_message FROM clusters").await
}

async fn retry(rig: &Rig) {
    rig.run("UPDATE clusters SET retry_requested_at = clock_timestamp()")
        .await;
}

async fn a_create_hangs(step: &'static str) {
    let rig = Rig::new().await;
    let first = hanging(&rig, step);
    rig.declare().await;
    rig.until_state("failed CreateFailed").await;
    let said = message(&rig).await;
    let expected = format!("step {step}: the sandbox create was stopped at its deadline of 2s");
    assert!(said.starts_with(&expected), "{said}");
    let late = rig.until_step(step, "failed").await;
    assert_eq!((late.attempt, &*late.reason), (1, "DeadlineExceeded"));
    first.kill();
    let before = rig.steps().await;
    let _successor = rig.daemon();
    retry(&rig).await;
    rig.running().await;
    let after = rig.steps().await;
    for name in STEPS.iter().take_while(|name| **name != step) {
        assert_eq!(before[*name].started, after[*name].started, "{name}");
    }
    rig.assert_one_node();
}

#[tokio::test]
async fn a_folder_that_hangs_is_late_by_name() {
    a_create_hangs("folder").await;
}

#[tokio::test]
async fn a_port_that_hangs_is_late_by_name() {
    a_create_hangs("port").await;
}

#[tokio::test]
async fn a_process_that_hangs_is_late_by_name() {
    a_create_hangs("process").await;
}

#[tokio::test]
async fn a_readiness_that_hangs_is_late_by_name() {
    let mut rig = Rig::new().await;
    // A create finds it in place; a changed port runs it.
    let first = hanging(&rig, "ready");
    rig.made().await;
    rig.port = claim_port();
    let port = rig.port.number;
    rig.run(&format!("UPDATE clusters SET http_port = {port}"))
        .await;
    rig.until_state("failed UpdateFailed").await;
    let said = message(&rig).await;
    let expected = "step ready: the sandbox update was stopped at its deadline of 2s";
    assert!(said.starts_with(expected), "{said}");
    first.kill();
    let _successor = rig.daemon();
    retry(&rig).await;
    rig.running().await;
    rig.assert_one_node();
}

#[tokio::test]
async fn a_best_effort_step_that_hangs_is_a_condition() {
    let rig = Rig::new().await;
    let first = hanging(&rig, "about");
    rig.declare().await;
    rig.until_state("running StepFailed").await;
    let late = rig.until_step("about", "failed").await;
    assert_eq!((&*late.reason, late.waits), ("DeadlineExceeded", true));
    assert_eq!(rig.nodes().len(), 1);
    first.kill();
    let _successor = rig.daemon();
    retry(&rig).await;
    rig.running().await;
    rig.assert_one_node();
}

async fn a_delete_hangs(step: &'static str) {
    let rig = Rig::new().await;
    let first = rig.daemon();
    rig.made().await;
    assert!(first.stop().await.success());
    let second = hanging(&rig, step);
    rig.delete().await;
    rig.until_state("failed DeleteFailed").await;
    let said = message(&rig).await;
    let expected = format!("step {step}: the sandbox delete was stopped at its deadline of 2s");
    assert!(said.starts_with(&expected), "{said}");
    let late = rig.until_step(step, "failed").await;
    assert_eq!((late.attempt, &*late.reason), (1, "RemovalFailed"));
    // Steps before it in the order are removed after it.
    let steps = rig.steps().await;
    for name in STEPS.iter().take_while(|name| **name != step) {
        assert_eq!(steps[*name].state, "done", "{name}");
    }
    second.kill();
    let _successor = rig.daemon();
    retry(&rig).await;
    rig.gone().await;
    rig.assert_nothing_left().await;
}

#[tokio::test]
async fn a_removal_of_a_folder_that_hangs_is_late() {
    a_delete_hangs("folder").await;
}

#[tokio::test]
async fn a_removal_of_a_port_that_hangs_is_late() {
    a_delete_hangs("port").await;
}

#[tokio::test]
async fn a_removal_of_a_process_that_hangs_is_late() {
    a_delete_hangs("process").await;
}

#[tokio::test]
async fn a_removal_of_a_readiness_that_hangs_is_late() {
    a_delete_hangs("ready").await;
}

#[tokio::test]
async fn a_stop_that_hangs_is_late_and_retried() {
    let rig = Rig::new().await;
    let first = rig.daemon();
    rig.made().await;
    assert!(first.stop().await.success());
    let second = hanging(&rig, "process");
    rig.stop_cluster().await;
    rig.until_state("failed StopFailed").await;
    let said = message(&rig).await;
    let expected = "step process: the sandbox stop was stopped at its deadline of 2s";
    assert!(said.starts_with(expected), "{said}");
    second.kill();
    let _successor = rig.daemon();
    retry(&rig).await;
    eventually(SOON, "the stop", || async {
        rig.state().await.starts_with("stopped ")
    })
    .await;
    assert!(rig.nodes().is_empty());
}
