//! Any step may hang, in any action: its deadline ends it, the row names it, and a
//! daemon without the fault resumes there.

use super::STEPS;
use super::rig::StepsRig;
use crate::kit::Daemon;

/// A daemon for which this step of `dev` hangs in every action until its deadline.
fn hanging_daemon(rig: &StepsRig, step: &str) -> Daemon {
    rig.builder()
        .set("KINDLER_SANDBOX_HANG", format!("dev:{step}"))
        .set("KINDLER_CREATE_DEADLINE", "2s")
        .set("KINDLER_DELETE_DEADLINE", "2s")
        .set("KINDLER_BACKOFF_INITIAL", "1h")
        .set("KINDLER_BACKOFF_MAX", "1h")
        .spawn()
}

async fn a_create_hangs(step: &'static str) {
    let rig = StepsRig::new().await;
    let first = hanging_daemon(&rig, step);
    rig.declare().await;
    rig.wait_state("failed CreateFailed").await;
    let message = rig.message().await;
    let expected = format!(
        "step {step}: the sandbox create was stopped at its deadline (KINDLER_CREATE_DEADLINE=2s)"
    );
    assert!(message.starts_with(&expected), "{message}");
    let late = rig.wait_step(step, "failed").await;
    assert_eq!((late.attempt, &*late.reason), (1, "DeadlineExceeded"));
    first.kill();
    let before = rig.steps().await;
    let _successor = rig.daemon();
    rig.retry().await;
    rig.wait_running().await;
    let after = rig.steps().await;
    for name in STEPS.iter().take_while(|name| **name != step) {
        assert_eq!(before[*name].started, after[*name].started, "{name}");
    }
    rig.assert_one_node();
}

#[tokio::test]
async fn a_hanging_folder_times_out_and_is_named() {
    a_create_hangs("folder").await;
}

#[tokio::test]
async fn a_hanging_port_times_out_and_is_named() {
    a_create_hangs("port").await;
}

#[tokio::test]
async fn a_hanging_process_times_out_and_is_named() {
    a_create_hangs("process").await;
}

#[tokio::test]
async fn a_hanging_readiness_times_out_and_is_named() {
    let mut rig = StepsRig::new().await;
    // A create finds this step in place; a changed port makes it run.
    let first = hanging_daemon(&rig, "ready");
    rig.declare_and_wait().await;
    rig.change_port().await;
    rig.wait_state("failed UpdateFailed").await;
    let message = rig.message().await;
    let expected =
        "step ready: the sandbox update was stopped at its deadline (KINDLER_CREATE_DEADLINE=2s)";
    assert!(message.starts_with(expected), "{message}");
    first.kill();
    let _successor = rig.daemon();
    rig.retry().await;
    rig.wait_running().await;
    rig.assert_one_node();
}

#[tokio::test]
async fn a_hanging_best_effort_step_is_a_condition() {
    let rig = StepsRig::new().await;
    let first = hanging_daemon(&rig, "about");
    rig.declare().await;
    rig.wait_state("running StepFailed").await;
    let late = rig.wait_step("about", "failed").await;
    assert_eq!((&*late.reason, late.waits), ("DeadlineExceeded", true));
    assert_eq!(rig.nodes().len(), 1);
    first.kill();
    let _successor = rig.daemon();
    rig.retry().await;
    rig.wait_running().await;
    rig.assert_one_node();
}

async fn a_delete_hangs(step: &'static str) {
    let rig = StepsRig::new().await;
    let first = rig.daemon();
    rig.declare_and_wait().await;
    assert!(first.stop().await.success());
    let second = hanging_daemon(&rig, step);
    rig.delete().await;
    rig.wait_state("failed DeleteFailed").await;
    let message = rig.message().await;
    let expected = format!(
        "step {step}: the sandbox delete was stopped at its deadline (KINDLER_DELETE_DEADLINE=2s)"
    );
    assert!(message.starts_with(&expected), "{message}");
    let late = rig.wait_step(step, "failed").await;
    assert_eq!((late.attempt, &*late.reason), (1, "RemovalFailed"));
    // Steps are removed last to first, so the earlier ones are untouched.
    let steps = rig.steps().await;
    for name in STEPS.iter().take_while(|name| **name != step) {
        assert_eq!(steps[*name].state, "done", "{name}");
    }
    second.kill();
    let _successor = rig.daemon();
    rig.retry().await;
    rig.wait_removed().await;
    rig.assert_nothing_left().await;
}

#[tokio::test]
async fn a_hanging_removal_of_a_folder_times_out() {
    a_delete_hangs("folder").await;
}

#[tokio::test]
async fn a_hanging_removal_of_a_port_times_out() {
    a_delete_hangs("port").await;
}

#[tokio::test]
async fn a_hanging_removal_of_a_process_times_out() {
    a_delete_hangs("process").await;
}

#[tokio::test]
async fn a_hanging_removal_of_readiness_times_out() {
    a_delete_hangs("ready").await;
}

#[tokio::test]
async fn a_hanging_stop_times_out_and_is_retried() {
    let rig = StepsRig::new().await;
    let first = rig.daemon();
    rig.declare_and_wait().await;
    assert!(first.stop().await.success());
    let second = hanging_daemon(&rig, "process");
    rig.stop_cluster().await;
    rig.wait_state("failed StopFailed").await;
    let message = rig.message().await;
    let expected =
        "step process: the sandbox stop was stopped at its deadline (KINDLER_DELETE_DEADLINE=2s)";
    assert!(message.starts_with(expected), "{message}");
    second.kill();
    let _successor = rig.daemon();
    rig.retry().await;
    rig.wait_stopped().await;
    assert!(rig.nodes().is_empty());
}
