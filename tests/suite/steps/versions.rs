//! Two releases: the records of a newer one are not touched, the steps of an older one
//! run again.

use super::STEPS;
use super::rig::{STEPS_TIMEOUT, StepsRig};
use crate::kit::{Sql, eventually};

/// A step that only a newer release knows, as it would have recorded it.
const UNKNOWN: &str = "INSERT INTO cluster_steps (uid, driver, name, position, total, version, required, state, attempt, reason, message)
    SELECT uid, 'sandbox', 'gateway', 6, 6, 1, true, 'done', 1, 'Applied', 'by a newer release' FROM clusters WHERE name = 'dev'";

/// A whole row of `cluster_steps` as text.
async fn step_as_text(rig: &StepsRig, step: &str) -> String {
    rig.sql
        .text(&format!(
            "SELECT to_jsonb(s)::text FROM cluster_steps s WHERE name = '{step}'"
        ))
        .await
}

/// Waits until the row of `dev` was reconciled twice more.
async fn reconciled_twice(rig: &StepsRig) {
    for _ in 0..2 {
        let before = rig
            .sql
            .text("SELECT last_reconciled_at::text FROM clusters")
            .await;
        eventually(STEPS_TIMEOUT, "another pass over the row", || async {
            rig.sql
                .text("SELECT last_reconciled_at::text FROM clusters")
                .await
                != before
        })
        .await;
    }
}

#[tokio::test]
async fn an_unknown_step_is_kept_until_it_is_marked_removed() {
    let rig = StepsRig::new().await;
    let _daemon = rig.daemon();
    rig.declare_and_wait().await;
    rig.sql.run(UNKNOWN).await;
    let newer = step_as_text(&rig, "gateway").await;
    reconciled_twice(&rig).await;
    rig.sql
        .run("UPDATE clusters SET pf_port = pf_port + 1")
        .await;
    rig.sql
        .wait_text(
            "SELECT actual_state || observed_generation FROM clusters",
            "running2",
        )
        .await;
    assert_eq!(step_as_text(&rig, "gateway").await, newer);
    let message = rig.message().await;
    assert!(
        message.ends_with("; steps left to a newer release: gateway"),
        "{message}"
    );

    rig.delete().await;
    rig.wait_state("failed StepsUnknown").await;
    assert!(
        !rig.folder().exists(),
        "the known steps must be removed all the same"
    );
    let text = rig
        .sql
        .text("SELECT status_message || ' ' || (next_attempt_at IS NOT NULL) FROM clusters")
        .await;
    assert!(
        text.starts_with("a newer release created gateway"),
        "{text}"
    );
    assert!(
        text.contains("'removed'") && text.ends_with(" true"),
        "{text}"
    );
    // It is kept over further attempts.
    rig.sql
        .wait_text("SELECT (failed_attempts > 1)::text FROM clusters", "true")
        .await;
    assert_eq!(step_as_text(&rig, "gateway").await, newer);
    rig.sql
        .run("UPDATE cluster_steps SET state = 'removed' WHERE name = 'gateway'")
        .await;
    rig.wait_removed().await;
    rig.assert_nothing_left().await;
}

#[tokio::test]
async fn a_create_does_not_touch_an_unknown_step() {
    let rig = StepsRig::new().await;
    rig.declare().await;
    rig.sql.run(UNKNOWN).await;
    let newer = step_as_text(&rig, "gateway").await;
    let _daemon = rig.daemon();
    rig.wait_state("running Created").await;
    reconciled_twice(&rig).await;
    assert_eq!(step_as_text(&rig, "gateway").await, newer);
    rig.assert_one_node();
}

#[tokio::test]
async fn a_newer_version_is_kept_until_it_is_marked_removed() {
    let rig = StepsRig::new().await;
    let _daemon = rig.daemon();
    rig.declare_and_wait().await;
    rig.sql
        .run("UPDATE cluster_steps SET version = 2, input_hash = 'newer' WHERE name = 'about'")
        .await;
    let newer = step_as_text(&rig, "about").await;
    std::fs::write(rig.about(), "what a newer release writes").unwrap();
    reconciled_twice(&rig).await;
    rig.sql
        .run("UPDATE clusters SET pf_port = pf_port + 1")
        .await;
    rig.sql
        .wait_text(
            "SELECT actual_state || observed_generation FROM clusters",
            "running2",
        )
        .await;
    reconciled_twice(&rig).await;
    assert_eq!(step_as_text(&rig, "about").await, newer);
    let text = std::fs::read_to_string(rig.about()).unwrap();
    assert_eq!(text, "what a newer release writes");
    rig.delete().await;
    rig.wait_state("failed StepsUnknown").await;
    assert_eq!(step_as_text(&rig, "about").await, newer);
    rig.sql
        .run("UPDATE cluster_steps SET state = 'removed' WHERE name = 'about'")
        .await;
    rig.wait_removed().await;
    rig.assert_nothing_left().await;
}

/// The present steps have version 1, the lowest that the table accepts: without this
/// constraint, version 0 stands for an earlier release.
const FIRST_VERSION_IS_ZERO: &str = "ALTER TABLE cluster_steps DROP CONSTRAINT cluster_steps_check";

/// Steps of an older release run again, and no others, while the cluster runs.
async fn reruns_older_steps(older: &[&str], as_recorded: &str) {
    let rig = StepsRig::new().await;
    let first = rig.daemon();
    rig.declare_and_wait().await;
    first.kill();
    let (before, pid) = (rig.steps().await, rig.nodes());
    let transitions = "SELECT count(*)::text FROM cluster_events WHERE kind = 'transition'";
    let was = rig.sql.text(transitions).await;
    rig.sql.run(FIRST_VERSION_IS_ZERO).await;
    for step in older {
        rig.sql
            .run(&format!(
                "UPDATE cluster_steps SET {as_recorded} WHERE name = '{step}'"
            ))
            .await;
    }
    let _daemon = rig.daemon();
    eventually(STEPS_TIMEOUT, "the older steps to run again", || async {
        let now = rig.steps().await;
        older.iter().all(|step| {
            let step_now = &now[*step];
            step_now.started != before[*step].started && step_now.state == "done"
        })
    })
    .await;
    reconciled_twice(&rig).await;
    let after = rig.steps().await;
    for name in STEPS {
        let again = after[name].started != before[name].started;
        assert_eq!(again, older.contains(&name), "{name}");
        assert_eq!((after[name].version, after[name].attempt), (1, 1));
    }
    assert_eq!(rig.nodes(), pid, "the node was restarted");
    assert_eq!(rig.sql.text(transitions).await, was);
}

#[tokio::test]
async fn only_steps_of_a_lower_version_run_again() {
    reruns_older_steps(&["port", "about"], "version = 0").await;
}

#[tokio::test]
async fn only_steps_with_a_changed_input_run_again() {
    reruns_older_steps(&["process"], "input_hash = 'another'").await;
}

#[tokio::test]
async fn an_upgrade_during_a_step_resumes_at_that_step() {
    let rig = StepsRig::new().await;
    let blocked = rig.block_step_end("port", "done").await;
    let first = rig.daemon();
    rig.declare().await;
    rig.wait_blocked().await;
    first.kill();
    rig.cancel_blocked(blocked).await;
    rig.sql.run(FIRST_VERSION_IS_ZERO).await;
    rig.sql
        .run("UPDATE cluster_steps SET version = 0 WHERE name = 'port'")
        .await;
    let before = rig.steps().await;
    let _daemon = rig.daemon();
    rig.wait_running().await;
    let after = rig.steps().await;
    assert_eq!(after["folder"], before["folder"]);
    assert_eq!(after["port"].reason, "Applied");
    rig.assert_one_node();
}

/// The host changes its driver while a cluster exists: what the other driver created is
/// unknown to this one, and not absent. It neither creates a second cluster nor removes
/// the row.
#[tokio::test]
async fn a_cluster_of_another_driver_is_left_alone() {
    let rig = StepsRig::new().await;
    let sandbox = rig.daemon();
    rig.declare_and_wait().await;
    assert_eq!(rig.message().await, "healthy: the probe succeeded");
    assert!(sandbox.stop().await.success());
    let before = rig.steps().await;
    let script = rig.builder().set("KINDLER_DRIVER", "script").spawn();
    rig.sql
        .run("UPDATE clusters SET next_check_at = now(), pf_port = pf_port + 1")
        .await;
    rig.wait_state("running StepsUnknown").await;
    let message = rig.message().await;
    let expected = "driver sandbox created folder, port, process, ready, about, and this daemon has \
                    driver script: start a daemon with KINDLER_DRIVER=sandbox";
    assert!(message.starts_with(expected), "{message}");
    script.full_passes(2).await;
    assert_eq!(rig.host.started("dev"), Vec::<String>::new());
    assert_eq!(rig.steps().await, before);
    rig.delete().await;
    rig.wait_state("running StepsUnknown").await;
    script.full_passes(2).await;
    assert_eq!(rig.host.started("dev"), Vec::<String>::new());
    rig.assert_one_node();
    assert!(script.stop().await.success());

    let _sandbox = rig.daemon();
    rig.wait_removed().await;
    rig.assert_nothing_left().await;
}

/// No step says which driver made it, as in rows of earlier releases, or after all steps were
/// removed: the row itself does.
#[tokio::test]
async fn the_row_records_its_driver_which_only_a_person_changes() {
    let rig = StepsRig::new().await;
    let sandbox = rig.daemon();
    rig.declare_and_wait().await;
    let driver = "SELECT driver FROM clusters";
    assert_eq!(rig.sql.text(driver).await, "sandbox");
    assert!(sandbox.stop().await.success());
    rig.sql.run("DELETE FROM cluster_steps").await;
    let script = rig.builder().set("KINDLER_DRIVER", "script").spawn();
    rig.sql
        .run("UPDATE clusters SET next_check_at = now(), pf_port = pf_port + 1")
        .await;
    rig.wait_state("running StepsUnknown").await;
    let message = rig.message().await;
    assert!(
        message
            .starts_with("driver sandbox created this cluster, and this daemon has driver script")
            && message.contains("`kindler adopt dev`"),
        "{message}"
    );
    script.full_passes(2).await;
    assert_eq!(rig.host.started("dev"), Vec::<String>::new());
    assert_eq!(rig.sql.text(driver).await, "sandbox");

    rig.sql
        .run("UPDATE clusters SET adopt_requested_at = now()")
        .await;
    eventually(STEPS_TIMEOUT, "the script driver to act", || async {
        (!rig.host.started("dev").is_empty()).then_some(())
    })
    .await;
    assert_eq!(rig.sql.text(driver).await, "script");
    let adopted = "SELECT count(*) FROM cluster_events WHERE kind = 'adopt'";
    assert_eq!(rig.sql.number(adopted).await, 1);
}
