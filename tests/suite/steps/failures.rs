//! If a required step fails, the cluster fails and its status names the step; if a
//! best-effort step fails, the cluster keeps running with a condition. Steps that are
//! in place are not touched.

use std::fs;

use super::STEPS;
use super::rig::{STEPS_TIMEOUT, StepsRig};
use crate::kit::{DaemonBuilder, Sql, claim_port, eventually};

/// A daemon for which this step of `dev` always fails.
fn failing_daemon(rig: &StepsRig, step: &str) -> DaemonBuilder {
    rig.builder()
        .set("KINDLER_SANDBOX_FAIL", format!("dev:{step}"))
        .set("KINDLER_BACKOFF_INITIAL", "1s")
        .set("KINDLER_BACKOFF_MAX", "2s")
}

/// A required step fails: the status of the cluster names it. A daemon without the
/// fault then repairs the cluster.
async fn a_required_step_fails(step: &'static str) {
    let rig = StepsRig::new().await;
    let first = failing_daemon(&rig, step).spawn();
    rig.declare().await;
    let text = "SELECT actual_state || ' ' || status_reason || ' ' || (next_attempt_at IS NOT NULL) || ' ' || failed_attempts
                || ' ' || status_message FROM clusters";
    let expected = format!("failed CreateFailed true 1 step {step}: the sandbox failed on purpose");
    eventually(STEPS_TIMEOUT, &expected, || async {
        rig.sql.text(text).await.starts_with(&expected)
    })
    .await;
    let recorded = rig.wait_step(step, "failed").await;
    assert_eq!((recorded.attempt, &*recorded.reason), (1, "Failed"));
    assert!(recorded.message.contains("on purpose"));
    rig.wait_step(step, "failed").await;
    eventually(STEPS_TIMEOUT, "another attempt", || async {
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
    assert_eq!(reached, through, "a later step ran");
    assert_eq!(**reached.last().unwrap(), step);

    let _successor = rig.daemon();
    rig.wait_running().await;
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
    let mut rig = StepsRig::new().await;
    // A create finds this step in place; a changed port makes it run.
    let first = failing_daemon(&rig, "ready").spawn();
    rig.declare_and_wait().await;
    let about = rig.steps().await["about"].clone();
    rig.change_port().await;
    rig.wait_state("failed UpdateFailed").await;
    let message = rig.message().await;
    assert!(message.starts_with("step ready: "), "{message}");
    first.kill();
    let before = rig.steps().await;
    assert_eq!(before["about"], about, "a later step ran");
    let _successor = rig.daemon();
    rig.wait_running().await;
    let after = rig.steps().await;
    for name in ["folder", "port", "process"] {
        assert_eq!(before[name].started, after[name].started, "{name}");
    }
    rig.assert_one_node();
}

#[tokio::test]
async fn a_failing_best_effort_step_is_a_condition() {
    let rig = StepsRig::new().await;
    let daemon = failing_daemon(&rig, "about").spawn();
    rig.declare().await;
    rig.wait_state("running StepFailed").await;
    let first = rig.steps().await;
    eventually(STEPS_TIMEOUT, "a third attempt", || async {
        let about = rig.steps().await.remove("about").unwrap();
        about.attempt >= 3 && about.state == "failed"
    })
    .await;
    // Measured by the database's clock: the delays grow, and are longer than the check
    // interval.
    let pauses = "SELECT string_agg(extract(epoch FROM at - before)::numeric(9, 2)::text, ' ' ORDER BY id)
                  FROM (SELECT id, at, lag(at) OVER (ORDER BY id) AS before FROM cluster_events
                        WHERE kind = 'step' AND message LIKE 'step about:%') e WHERE before IS NOT NULL";
    let pauses = rig.sql.text(pauses).await;
    let pauses: Vec<f64> = pauses.split(' ').map(|p| p.parse().unwrap()).collect();
    assert!(pauses[0] >= 0.5 && pauses[1] >= 1.0, "{pauses:?}");
    let text = rig
        .sql.text("SELECT actual_state || ' ' || failed_attempts || ' ' || coalesce(reconcile_error, 'none') || ' ' || status_message FROM clusters")
        .await;
    assert!(text.starts_with("running 0 none "), "{text}");
    assert!(text.contains("step about failed: the sandbox failed on purpose"));
    let now = rig.steps().await;
    for name in STEPS.iter().filter(|name| **name != "about") {
        assert_eq!(first[*name], now[*name], "another step ran");
    }
    assert_eq!(rig.nodes().len(), 1);
    daemon.kill();
    let _successor = rig.daemon();
    rig.wait_running().await;
    assert_eq!(rig.steps().await["folder"], first["folder"]);
    rig.assert_one_node();
}

#[tokio::test]
async fn a_best_effort_step_recovers_by_itself() {
    let rig = StepsRig::new().await;
    let _daemon = rig.builder().set("KINDLER_BACKOFF_MAX", "1s").spawn();
    rig.declare_and_wait().await;
    let before = rig.steps().await;
    rig.obstruct_about();
    rig.wait_state("running StepFailed").await;
    let failed = rig.wait_step("about", "failed").await;
    assert!(failed.message.contains("about.txt"), "{failed:?}");
    fs::remove_dir_all(rig.about()).unwrap();
    rig.wait_running().await;
    let after = rig.steps().await;
    for name in STEPS.iter().filter(|name| **name != "about") {
        assert_eq!(before[*name], after[*name], "another step ran");
    }
    let healed = rig
        .sql
        .text("SELECT status_reason || failed_attempts FROM clusters")
        .await;
    assert_eq!(healed, "Healthy0");
    rig.assert_one_node();
}

#[tokio::test]
async fn a_hanging_step_times_out_is_named_and_retried() {
    let rig = StepsRig::new().await;
    // Each of the three acting steps gets a third of the delay: the first one ends
    // before the deadline.
    let first = rig
        .builder()
        .set("KINDLER_SANDBOX_CREATE_DELAY", "7s")
        .set("KINDLER_CREATE_DEADLINE", "3s")
        .set("KINDLER_CONCURRENCY", "2")
        .start()
        .await;
    rig.declare().await;
    let other = claim_port();
    rig.wait_step("folder", "running").await;
    rig.sql.run(&format!(
        "INSERT INTO clusters (name, provider, http_port, desired_state) VALUES ('other', 'k3d', {}, 'stopped')",
        other.number
    ))
    .await;
    let settled = "SELECT (SELECT actual_state FROM clusters WHERE name = 'other') || ' '
                   || (SELECT actual_state FROM clusters WHERE name = 'dev')";
    rig.sql.wait_text(settled, "stopped creating").await;
    rig.wait_state("failed CreateFailed").await;
    let late = rig.wait_step("port", "failed").await;
    assert_eq!(late.reason, "DeadlineExceeded");
    let message = rig.message().await;
    let expected =
        "step port: the sandbox create was stopped at its deadline (KINDLER_CREATE_DEADLINE=3s)";
    assert!(message.starts_with(expected), "{message}");
    // The next attempt begins at the step that failed, so it gets further.
    let folder = rig.steps().await["folder"].clone();
    rig.wait_step("port", "done").await;
    assert_eq!(rig.steps().await["folder"], folder);
    first.kill();
    let _successor = rig.daemon();
    rig.wait_running().await;
    rig.assert_one_node();
}

#[tokio::test]
async fn a_requested_retry_runs_a_best_effort_step_at_once() {
    let rig = StepsRig::new().await;
    let _daemon = rig
        .builder()
        .set("KINDLER_BACKOFF_INITIAL", "1h")
        .set("KINDLER_BACKOFF_MAX", "1h")
        .spawn();
    rig.declare_and_wait().await;
    rig.obstruct_about();
    let failed = rig.wait_step("about", "failed").await;
    assert!(failed.waits, "{failed:?}");
    fs::remove_dir_all(rig.about()).unwrap();
    rig.retry().await;
    rig.wait_running().await;
    assert_eq!(rig.steps().await["about"].attempt, 1);
    rig.assert_one_node();
}

/// The node answers on the new port, but a required step is missing.
#[tokio::test]
async fn a_create_without_a_required_step_fails() {
    let mut rig = StepsRig::new().await;
    let first = failing_daemon(&rig, "ready").spawn();
    rig.declare_and_wait().await;
    first.kill();
    rig.kill_node();
    rig.change_port().await;
    // A row whose create was interrupted, as after a crash.
    rig.sql
        .run("UPDATE clusters SET actual_state = 'creating', observed_spec_hash = NULL")
        .await;
    let second = failing_daemon(&rig, "ready").spawn();
    rig.wait_state("failed CreateFailed").await;
    assert_eq!(rig.steps().await["process"].state, "done");
    second.kill();
    let _successor = rig.daemon();
    rig.wait_running().await;
    rig.assert_one_node();
}

/// A failed observation is not a failure of the step.
#[tokio::test]
async fn an_unobservable_step_does_not_fail_a_running_cluster() {
    let rig = StepsRig::new().await;
    let daemon = rig.daemon();
    rig.declare_and_wait().await;
    let pid = rig.nodes();
    let since = rig
        .sql
        .text("SELECT max(id)::text FROM cluster_events")
        .await;
    // A port claim that is not a link cannot be read.
    fs::remove_file(rig.claim()).unwrap();
    fs::create_dir(rig.claim()).unwrap();
    eventually(
        STEPS_TIMEOUT,
        "the message that the step cannot be observed",
        || async {
            let text = rig.message().await;
            text.contains("cannot be observed")
        },
    )
    .await;
    daemon.full_passes(3).await;
    let log = format!(
        "SELECT string_agg(kind || ' ' || coalesce(to_state, '') || ' ' || coalesce(reason, ''), ', ' ORDER BY id) FROM cluster_events WHERE id > {since}"
    );
    let log = rig.sql.text(&log).await;
    assert!(!log.contains("failed"), "{log}");
    fs::remove_dir(rig.claim()).unwrap();
    eventually(
        STEPS_TIMEOUT,
        "the claim to exist again, and the status healthy",
        || async {
            fs::symlink_metadata(rig.claim()).is_ok() && rig.state().await == "running Healthy"
        },
    )
    .await;
    rig.wait_running().await;
    assert_eq!(rig.nodes(), pid);
    rig.assert_one_node();
}
