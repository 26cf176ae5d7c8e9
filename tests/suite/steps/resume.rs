//! A daemon that dies in a step: its successor resumes at the first step that is
//! not verified.

use super::STEPS;
use super::rig::Rig;

/// What a step leaves that a second attempt would replace.
fn marks(rig: &Rig) -> Vec<(&'static str, Option<u64>)> {
    let record = rig.folder().join("node.json");
    vec![
        ("folder", Rig::inode(&rig.folder())),
        ("port", Rig::inode(&rig.claim())),
        ("process", Rig::inode(&record)),
    ]
}

/// The successor of a daemon that was killed while `step` ran.
async fn resume(rig: &Rig, step: &str, kept: &[&str]) {
    let (before, marked) = (rig.steps().await, marks(rig));
    let _successor = rig.daemon();
    rig.running().await;
    let (after, now) = (rig.steps().await, marks(rig));
    for name in STEPS.iter().take_while(|name| **name != step) {
        let (was, is) = (&before[*name], &after[*name]);
        assert_eq!(
            (&was.started, was.attempt),
            (&is.started, is.attempt),
            "{name} was applied again after a crash in {step}"
        );
    }
    for (was, is) in marked.iter().zip(&now) {
        if kept.contains(&was.0) {
            assert!(was.1.is_some());
            assert_eq!(was, is, "after a crash in {step}");
        }
    }
    rig.assert_one_node();
}

/// Killed in the pause before the effect.
async fn killed_before_the_effect(step: &'static str, kept: &[&str]) {
    let rig = Rig::new().await;
    let first = rig
        .builder()
        .set("KINDLER_SANDBOX_CREATE_DELAY", "6s")
        .spawn();
    rig.declare().await;
    rig.until_step(step, "running").await;
    first.kill();
    assert_eq!(rig.steps().await[step].state, "running");
    resume(&rig, step, kept).await;
    let resumed = &rig.steps().await[step];
    assert_eq!((resumed.attempt, &*resumed.reason), (2, "Applied"));
}

/// Killed when the effect is done and its end is not recorded.
async fn killed_after_the_effect(step: &'static str, kept: &[&str]) {
    let rig = Rig::new().await;
    let held = rig.hold_end(step, "done").await;
    let first = rig.daemon();
    rig.declare().await;
    rig.until_held().await;
    assert_eq!(rig.steps().await[step].state, "running");
    first.kill();
    rig.drop_held(held).await;
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

/// Killed while `step` is recorded as `removing`; nothing that was removed before
/// is removed again.
async fn killed_while_removing(step: &'static str) {
    let rig = Rig::new().await;
    let first = rig.daemon();
    rig.made().await;
    let held = rig.hold_end(step, "removed").await;
    rig.delete().await;
    rig.until_held().await;
    assert_eq!(rig.steps().await[step].state, "removing");
    first.kill();
    rig.drop_held(held).await;
    let _successor = rig.daemon();
    rig.gone().await;
    rig.assert_nothing_left().await;
    // The end of the last one is the removal of the row.
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
    let rig = Rig::new().await;
    let first = rig
        .builder()
        .set("KINDLER_SANDBOX_DELETE_DELAY", "1h")
        .spawn();
    rig.made().await;
    rig.delete().await;
    rig.until_step("process", "removing").await;
    first.kill();
    assert_eq!(rig.nodes().len(), 1);
    let _successor = rig.daemon();
    rig.gone().await;
    rig.assert_nothing_left().await;
}
