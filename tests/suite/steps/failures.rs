//! A step that fails or hangs: the cluster fails by name, or keeps running with a
//! condition; what is in place is left alone.

use std::fs;

use super::STEPS;
use super::rig::{Rig, SOON};
use crate::kit::{DaemonBuilder, claim_port, eventually};

/// A daemon under which this step of `dev` fails, every time.
fn failing(rig: &Rig, step: &str) -> DaemonBuilder {
    rig.builder()
        .set("KINDLER_SANDBOX_FAIL", format!("dev:{step}"))
        .set("KINDLER_BACKOFF_INITIAL", "1s")
        .set("KINDLER_BACKOFF_MAX", "2s")
}

/// A required step fails: the cluster fails, visibly; then it is mended by a daemon
/// without the fault.
async fn a_required_step_fails(step: &'static str) {
    let rig = Rig::new().await;
    let first = failing(&rig, step).spawn();
    rig.declare().await;
    let told = "SELECT actual_state || ' ' || status_reason || ' ' || (next_attempt_at IS NOT NULL) || ' ' || failed_attempts
                || ' ' || status_message FROM clusters";
    let expected = format!("failed CreateFailed true 1 step {step}: the sandbox failed on purpose");
    eventually(SOON, &expected, || async {
        rig.text(told).await.starts_with(&expected)
    })
    .await;
    let recorded = rig.until_step(step, "failed").await;
    assert_eq!((recorded.attempt, &*recorded.reason), (1, "Failed"));
    assert!(recorded.message.contains("on purpose"));
    rig.until_step(step, "failed").await;
    eventually(SOON, "another attempt", || async {
        rig.steps().await[step].attempt >= 2
    })
    .await;
    first.kill();
    let before = rig.steps().await;
    let reached: Vec<_> = STEPS
        .iter()
        .filter(|name| before.contains_key(**name))
        .collect();
    let through: Vec<_> = STEPS.iter().take(reached.len()).collect();
    assert_eq!(reached, through, "a later step was touched");
    assert_eq!(**reached.last().unwrap(), step);

    let _successor = rig.daemon();
    rig.running().await;
    let after = rig.steps().await;
    for name in reached.iter().filter(|name| ***name != step) {
        assert_eq!(before[**name].started, after[**name].started, "{name}");
        assert_eq!(after[**name].attempt, 1);
    }
    rig.assert_one_node();
}

#[tokio::test]
async fn a_failing_folder_fails_the_cluster() {
    a_required_step_fails("folder").await;
}

#[tokio::test]
async fn a_failing_port_fails_the_cluster() {
    a_required_step_fails("port").await;
}

#[tokio::test]
async fn a_failing_process_fails_the_cluster() {
    a_required_step_fails("process").await;
}

#[tokio::test]
async fn a_failing_readiness_fails_the_update() {
    let mut rig = Rig::new().await;
    // A create finds it in place; a changed port runs it.
    let first = failing(&rig, "ready").spawn();
    rig.made().await;
    let about = rig.steps().await["about"].clone();
    rig.port = claim_port();
    let port = rig.port.number;
    rig.run(&format!("UPDATE clusters SET http_port = {port}"))
        .await;
    rig.until_state("failed UpdateFailed").await;
    let message = rig.text("SELECT status_message FROM clusters").await;
    assert!(message.starts_with("step ready: "), "{message}");
    first.kill();
    let before = rig.steps().await;
    assert_eq!(before["about"], about, "a later step was touched");
    let _successor = rig.daemon();
    rig.running().await;
    let after = rig.steps().await;
    for name in ["folder", "port", "process"] {
        assert_eq!(before[name].started, after[name].started, "{name}");
    }
    rig.assert_one_node();
}

/// What is in the way of `about.txt`: a folder, even for root.
async fn obstruct(rig: &Rig) {
    let _ = fs::remove_file(rig.about());
    fs::create_dir(rig.about()).unwrap();
    fs::write(rig.about().join("in-the-way"), "").unwrap();
}

#[tokio::test]
async fn a_failing_best_effort_step_is_a_condition() {
    let rig = Rig::new().await;
    let daemon = failing(&rig, "about").spawn();
    rig.declare().await;
    rig.until_state("running StepFailed").await;
    let first = rig.steps().await;
    eventually(SOON, "a third attempt", || async {
        let about = rig.steps().await.remove("about").unwrap();
        about.attempt >= 3 && about.state == "failed"
    })
    .await;
    // The database's clock judges the pauses: they grow, and exceed the checks.
    let pauses = "SELECT string_agg(extract(epoch FROM at - before)::numeric(9, 2)::text, ' ' ORDER BY id)
                  FROM (SELECT id, at, lag(at) OVER (ORDER BY id) AS before FROM cluster_events
                        WHERE kind = 'step' AND message LIKE 'step about:%') e WHERE before IS NOT NULL";
    let pauses = rig.text(pauses).await;
    let pauses: Vec<f64> = pauses.split(' ').map(|p| p.parse().unwrap()).collect();
    assert!(pauses[0] >= 0.5 && pauses[1] >= 1.0, "{pauses:?}");
    let told = rig
        .text("SELECT actual_state || ' ' || failed_attempts || ' ' || coalesce(reconcile_error, 'none') || ' ' || status_message FROM clusters")
        .await;
    assert!(told.starts_with("running 0 none "), "{told}");
    assert!(told.contains("step about failed: the sandbox failed on purpose"));
    let now = rig.steps().await;
    for name in STEPS.iter().filter(|name| **name != "about") {
        assert_eq!(first[*name], now[*name], "another step was touched");
    }
    assert_eq!(rig.nodes().len(), 1);
    daemon.kill();
    let _successor = rig.daemon();
    rig.running().await;
    assert_eq!(rig.steps().await["folder"], first["folder"]);
    rig.assert_one_node();
}

#[tokio::test]
async fn a_best_effort_step_recovers_by_itself() {
    let rig = Rig::new().await;
    let _daemon = rig.builder().set("KINDLER_BACKOFF_MAX", "1s").spawn();
    rig.made().await;
    let before = rig.steps().await;
    obstruct(&rig).await;
    rig.until_state("running StepFailed").await;
    let failed = rig.until_step("about", "failed").await;
    assert!(failed.message.contains("about.txt"), "{failed:?}");
    fs::remove_dir_all(rig.about()).unwrap();
    rig.running().await;
    let after = rig.steps().await;
    for name in STEPS.iter().filter(|name| **name != "about") {
        assert_eq!(before[*name], after[*name], "another step was touched");
    }
    let healed = rig
        .text("SELECT status_reason || failed_attempts FROM clusters")
        .await;
    assert_eq!(healed, "Healthy0");
    rig.assert_one_node();
}

#[tokio::test]
async fn a_hanging_step_is_late_by_name_and_retried() {
    let rig = Rig::new().await;
    // A third of it for each of three steps: the first is through in time.
    let first = rig
        .builder()
        .set("KINDLER_SANDBOX_CREATE_DELAY", "7s")
        .set("KINDLER_CREATE_DEADLINE", "3s")
        .set("KINDLER_CONCURRENCY", "2")
        .spawn();
    first.ready().await;
    rig.declare().await;
    let other = claim_port();
    rig.until_step("folder", "running").await;
    rig.run(&format!(
        "INSERT INTO clusters (name, provider, http_port, desired_state) VALUES ('other', 'k3d', {}, 'stopped')",
        other.number
    ))
    .await;
    let settled = "SELECT (SELECT actual_state FROM clusters WHERE name = 'other') || ' '
                   || (SELECT actual_state FROM clusters WHERE name = 'dev')";
    eventually(SOON, "the other cluster meanwhile", || async {
        rig.text(settled).await == "stopped creating"
    })
    .await;
    rig.until_state("failed CreateFailed").await;
    let late = rig.until_step("port", "failed").await;
    assert_eq!(late.reason, "DeadlineExceeded");
    let message = rig
        .text("SELECT status_message FROM clusters WHERE name = 'dev'")
        .await;
    let expected = "step port: the sandbox create was stopped at its deadline of 3s";
    assert!(message.starts_with(expected), "{message}");
    // The next attempt begins where the last one ended, and so comes further.
    let folder = rig.steps().await["folder"].clone();
    rig.until_step("port", "done").await;
    assert_eq!(rig.steps().await["folder"], folder);
    first.kill();
    let _successor = rig.daemon();
    rig.running().await;
    rig.assert_one_node();
}

#[tokio::test]
async fn a_retry_on_demand_tries_a_best_effort_step_at_once() {
    let rig = Rig::new().await;
    let _daemon = rig
        .builder()
        .set("KINDLER_BACKOFF_INITIAL", "1h")
        .set("KINDLER_BACKOFF_MAX", "1h")
        .spawn();
    rig.made().await;
    obstruct(&rig).await;
    let failed = rig.until_step("about", "failed").await;
    assert!(failed.waits, "{failed:?}");
    fs::remove_dir_all(rig.about()).unwrap();
    rig.run("UPDATE clusters SET retry_requested_at = clock_timestamp()")
        .await;
    rig.running().await;
    assert_eq!(rig.steps().await["about"].attempt, 1);
    rig.assert_one_node();
}

/// The node answers on the new port, and still lacks a step that it needs.
#[tokio::test]
async fn a_create_that_lacks_a_required_step_fails() {
    let mut rig = Rig::new().await;
    let first = failing(&rig, "ready").spawn();
    rig.made().await;
    first.kill();
    rig.kill_node();
    rig.port = claim_port();
    let port = rig.port.number;
    rig.run(&format!("UPDATE clusters SET http_port = {port}"))
        .await;
    // A row whose create is under way, as after a crash.
    rig.run("UPDATE clusters SET actual_state = 'creating', observed_spec_hash = NULL")
        .await;
    let second = failing(&rig, "ready").spawn();
    rig.until_state("failed CreateFailed").await;
    assert_eq!(rig.steps().await["process"].state, "done");
    second.kill();
    let _successor = rig.daemon();
    rig.running().await;
    rig.assert_one_node();
}

/// Ignorance is not illness: nothing is known to be wrong.
#[tokio::test]
async fn a_step_that_cannot_be_seen_fails_no_running_cluster() {
    let rig = Rig::new().await;
    let daemon = rig.daemon();
    rig.made().await;
    let pid = rig.nodes();
    let since = rig.text("SELECT max(id)::text FROM cluster_events").await;
    // A claim that is no link cannot be read.
    fs::remove_file(rig.claim()).unwrap();
    fs::create_dir(rig.claim()).unwrap();
    eventually(SOON, "that it cannot be seen", || async {
        let told = rig.text("SELECT status_message FROM clusters").await;
        told.contains("cannot be observed")
    })
    .await;
    daemon.full_passes(3).await;
    let log = format!(
        "SELECT string_agg(kind || ' ' || coalesce(to_state, '') || ' ' || coalesce(reason, ''), ', ' ORDER BY id) FROM cluster_events WHERE id > {since}"
    );
    let log = rig.text(&log).await;
    assert!(!log.contains("failed"), "{log}");
    fs::remove_dir(rig.claim()).unwrap();
    eventually(
        SOON,
        "the claim to be back, and its reason gone",
        || async {
            fs::symlink_metadata(rig.claim()).is_ok() && rig.state().await == "running Healthy"
        },
    )
    .await;
    rig.running().await;
    assert_eq!(rig.nodes(), pid);
    rig.assert_one_node();
}
