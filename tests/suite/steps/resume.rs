//! A daemon dies during a step: its successor resumes at the first step that is not
//! verified.

use super::STEPS;
use super::rig::StepsRig;

/// The inodes that a second attempt of a step would change.
fn inodes(rig: &StepsRig) -> Vec<(&'static str, Option<u64>)> {
    let record = rig.folder().join("node.json");
    vec![
        ("folder", StepsRig::inode(&rig.folder())),
        ("port", StepsRig::inode(&rig.claim())),
        ("process", StepsRig::inode(&record)),
    ]
}

/// Starts a successor of the daemon that was killed while `step` ran, and checks what
/// it repeated.
async fn resume(rig: &StepsRig, step: &str, kept: &[&str]) {
    let (before, inodes_before) = (rig.steps().await, inodes(rig));
    let _successor = rig.daemon();
    rig.wait_running().await;
    let (after, now) = (rig.steps().await, inodes(rig));
    for name in STEPS.iter().take_while(|name| **name != step) {
        let (was, is) = (&before[*name], &after[*name]);
        assert_eq!(
            (&was.started, was.attempt),
            (&is.started, is.attempt),
            "{name} was applied again after a crash in {step}"
        );
    }
    for (was, is) in inodes_before.iter().zip(&now) {
        if kept.contains(&was.0) {
            assert!(was.1.is_some());
            assert_eq!(was, is, "after a crash in {step}");
        }
    }
    rig.assert_one_node();
}

/// The daemon is killed during the delay before the effect.
async fn killed_before_the_effect(step: &'static str, kept: &[&str]) {
    let rig = StepsRig::new().await;
    let first = rig
        .builder()
        .set("KINDLER_SANDBOX_CREATE_DELAY", "6s")
        .spawn();
    rig.declare().await;
    rig.wait_step(step, "running").await;
    first.kill();
    assert_eq!(rig.steps().await[step].state, "running");
    resume(&rig, step, kept).await;
    let resumed = &rig.steps().await[step];
    assert_eq!((resumed.attempt, &*resumed.reason), (2, "Applied"));
}

/// The daemon is killed after the effect and before its result is recorded.
async fn killed_after_the_effect(step: &'static str, kept: &[&str]) {
    let rig = StepsRig::new().await;
    let blocked = rig.block_step_end(step, "done").await;
    let first = rig.daemon();
    rig.declare().await;
    rig.wait_blocked().await;
    assert_eq!(rig.steps().await[step].state, "running");
    first.kill();
    rig.cancel_blocked(blocked).await;
    resume(&rig, step, kept).await;
    assert_eq!(rig.steps().await[step].reason, "Verified");
}

#[tokio::test]
async fn a_crash_before_the_folder_resumes_there() {
    killed_before_the_effect("folder", &[]).await;
}

#[tokio::test]
async fn a_crash_before_the_port_resumes_there() {
    killed_before_the_effect("port", &["folder"]).await;
}

#[tokio::test]
async fn a_crash_before_the_process_resumes_there() {
    killed_before_the_effect("process", &["folder", "port"]).await;
}

#[tokio::test]
async fn a_crash_after_the_folder_does_not_repeat_it() {
    killed_after_the_effect("folder", &["folder"]).await;
}

#[tokio::test]
async fn a_crash_after_the_port_does_not_repeat_it() {
    killed_after_the_effect("port", &["folder", "port"]).await;
}

#[tokio::test]
async fn a_crash_after_the_process_starts_no_second_node() {
    killed_after_the_effect("process", &["folder", "port", "process"]).await;
}

#[tokio::test]
async fn a_crash_after_the_about_text_does_not_repeat_it() {
    killed_after_the_effect("about", &["folder", "port", "process"]).await;
}

/// The daemon is killed while `step` is recorded as `removing`; steps that were removed
/// before are not removed again.
async fn killed_while_removing(step: &'static str) {
    let rig = StepsRig::new().await;
    let first = rig.daemon();
    rig.declare_and_wait().await;
    let blocked = rig.block_step_end(step, "removed").await;
    rig.delete().await;
    rig.wait_blocked().await;
    assert_eq!(rig.steps().await[step].state, "removing");
    first.kill();
    rig.cancel_blocked(blocked).await;
    let _successor = rig.daemon();
    rig.wait_removed().await;
    rig.assert_nothing_left().await;
    // The removal of the row ends the last step.
    let removed: Vec<String> = rig.step_events().await;
    let removed = removed.iter().filter(|event| event.ends_with(" Removed"));
    let expected = ["about", "ready", "process", "port"].map(|name| format!("{name} Removed"));
    assert!(removed.eq(expected.iter()), "{:?}", rig.step_events().await);
}

#[tokio::test]
async fn a_crash_while_removing_the_about_text_resumes() {
    killed_while_removing("about").await;
}

#[tokio::test]
async fn a_crash_while_removing_readiness_resumes() {
    killed_while_removing("ready").await;
}

#[tokio::test]
async fn a_crash_while_removing_the_process_resumes() {
    killed_while_removing("process").await;
}

#[tokio::test]
async fn a_crash_while_removing_the_port_resumes() {
    killed_while_removing("port").await;
}

#[tokio::test]
async fn a_crash_while_removing_the_folder_resumes() {
    killed_while_removing("folder").await;
}

#[tokio::test]
async fn a_crash_before_the_process_ends_leaves_no_orphan() {
    let rig = StepsRig::new().await;
    let first = rig
        .builder()
        .set("KINDLER_SANDBOX_DELETE_DELAY", "1h")
        .spawn();
    rig.declare_and_wait().await;
    rig.delete().await;
    rig.wait_step("process", "removing").await;
    first.kill();
    assert_eq!(rig.nodes().len(), 1);
    let _successor = rig.daemon();
    rig.wait_removed().await;
    rig.assert_nothing_left().await;
}
