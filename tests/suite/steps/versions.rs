//! Releases side by side: what a newer one recorded is left alone, what an older
//! one recorded runs again, step by step.

use super::STEPS;
use super::rig::{Rig, SOON};
use crate::kit::eventually;

/// A step that only a newer release knows, as that would have recorded it.
const UNKNOWN: &str = "INSERT INTO cluster_steps (uid, driver, name, position, total, version, required, state, attempt, reason, message)
    SELECT uid, 'sandbox', 'gateway', 6, 6, 1, true, 'done', 1, 'Applied', 'by a newer release' FROM clusters WHERE name = 'dev'";

/// A row of `cluster_steps` as text, whole.
async fn whole(rig: &Rig, step: &str) -> String {
    rig.text(&format!(
        "SELECT to_jsonb(s)::text FROM cluster_steps s WHERE name = '{step}'"
    ))
    .await
}

/// Waits until the row of `dev` was looked at twice more.
async fn looked_at_twice(rig: &Rig) {
    for _ in 0..2 {
        let seen = rig
            .text("SELECT last_reconciled_at::text FROM clusters")
            .await;
        eventually(SOON, "another look", || async {
            rig.text("SELECT last_reconciled_at::text FROM clusters")
                .await
                != seen
        })
        .await;
    }
}

#[tokio::test]
async fn an_unknown_step_is_left_alone_until_it_is_removed() {
    let rig = Rig::new().await;
    let _daemon = rig.daemon();
    rig.made().await;
    rig.run(UNKNOWN).await;
    let newer = whole(&rig, "gateway").await;
    looked_at_twice(&rig).await;
    rig.run("UPDATE clusters SET pf_port = pf_port + 1").await;
    eventually(SOON, "the update", || async {
        rig.text("SELECT actual_state || observed_generation FROM clusters")
            .await
            == "running2"
    })
    .await;
    assert_eq!(whole(&rig, "gateway").await, newer);
    let said = status_message(&rig).await;
    assert!(
        said.ends_with("; left to a newer release: gateway"),
        "{said}"
    );

    rig.delete().await;
    rig.until_state("failed StepsUnknown").await;
    assert!(
        !rig.folder().exists(),
        "what is known is removed all the same"
    );
    let told = rig
        .text("SELECT status_message || ' ' || (next_attempt_at IS NOT NULL) FROM clusters")
        .await;
    assert!(
        told.starts_with("a newer release created gateway"),
        "{told}"
    );
    assert!(
        told.contains("'removed'") && told.ends_with(" true"),
        "{told}"
    );
    // It stays over further attempts.
    eventually(SOON, "another attempt", || async {
        rig.text("SELECT (failed_attempts > 1)::text FROM clusters")
            .await
            == "true"
    })
    .await;
    assert_eq!(whole(&rig, "gateway").await, newer);
    rig.run("UPDATE cluster_steps SET state = 'removed' WHERE name = 'gateway'")
        .await;
    rig.gone().await;
    rig.assert_nothing_left().await;
}

#[tokio::test]
async fn an_unknown_step_is_left_alone_by_a_create() {
    let rig = Rig::new().await;
    rig.declare().await;
    rig.run(UNKNOWN).await;
    let newer = whole(&rig, "gateway").await;
    let _daemon = rig.daemon();
    rig.until_state("running Created").await;
    looked_at_twice(&rig).await;
    assert_eq!(whole(&rig, "gateway").await, newer);
    rig.assert_one_node();
}

#[tokio::test]
async fn a_newer_version_is_left_alone_until_it_is_removed() {
    let rig = Rig::new().await;
    let _daemon = rig.daemon();
    rig.made().await;
    rig.run("UPDATE cluster_steps SET version = 2, input_hash = 'newer' WHERE name = 'about'")
        .await;
    let newer = whole(&rig, "about").await;
    std::fs::write(rig.about(), "what a newer release writes").unwrap();
    looked_at_twice(&rig).await;
    rig.run("UPDATE clusters SET pf_port = pf_port + 1").await;
    eventually(SOON, "the update", || async {
        rig.text("SELECT actual_state || observed_generation FROM clusters")
            .await
            == "running2"
    })
    .await;
    looked_at_twice(&rig).await;
    assert_eq!(whole(&rig, "about").await, newer);
    let text = std::fs::read_to_string(rig.about()).unwrap();
    assert_eq!(text, "what a newer release writes");
    rig.delete().await;
    rig.until_state("failed StepsUnknown").await;
    assert_eq!(whole(&rig, "about").await, newer);
    rig.run("UPDATE cluster_steps SET state = 'removed' WHERE name = 'about'")
        .await;
    rig.gone().await;
    rig.assert_nothing_left().await;
}

/// The steps are of version 1, the lowest that the table takes: in the tests' own
/// database one lower stands for an earlier release.
const FIRST_VERSION_IS_ZERO: &str = "ALTER TABLE cluster_steps DROP CONSTRAINT cluster_steps_check";

/// Steps of an older release are run again, and no others, while the cluster runs.
async fn upgraded(older: &[&str], as_recorded: &str) {
    let rig = Rig::new().await;
    let first = rig.daemon();
    rig.made().await;
    first.kill();
    let (before, pid) = (rig.steps().await, rig.nodes());
    let transitions = "SELECT count(*)::text FROM cluster_events WHERE kind = 'transition'";
    let was = rig.text(transitions).await;
    rig.run(FIRST_VERSION_IS_ZERO).await;
    for step in older {
        rig.run(&format!(
            "UPDATE cluster_steps SET {as_recorded} WHERE name = '{step}'"
        ))
        .await;
    }
    let _daemon = rig.daemon();
    eventually(SOON, "the older steps to run again", || async {
        let now = rig.steps().await;
        older.iter().all(|step| {
            let step_now = &now[*step];
            step_now.started != before[*step].started && step_now.state == "done"
        })
    })
    .await;
    looked_at_twice(&rig).await;
    let after = rig.steps().await;
    for name in STEPS {
        let again = after[name].started != before[name].started;
        assert_eq!(again, older.contains(&name), "{name}");
        assert_eq!((after[name].version, after[name].attempt), (1, 1));
    }
    assert_eq!(rig.nodes(), pid, "the node was started again");
    assert_eq!(rig.text(transitions).await, was);
}

#[tokio::test]
async fn steps_of_a_lower_version_run_again_alone() {
    upgraded(&["port", "about"], "version = 0").await;
}

#[tokio::test]
async fn steps_for_another_input_run_again_alone() {
    upgraded(&["process"], "input_hash = 'another'").await;
}

#[tokio::test]
async fn an_upgrade_in_the_middle_of_a_step_goes_on_there() {
    let rig = Rig::new().await;
    let held = rig.hold_end("port", "done").await;
    let first = rig.daemon();
    rig.declare().await;
    rig.until_held().await;
    first.kill();
    rig.drop_held(held).await;
    rig.run(FIRST_VERSION_IS_ZERO).await;
    rig.run("UPDATE cluster_steps SET version = 0 WHERE name = 'port'")
        .await;
    let before = rig.steps().await;
    let _daemon = rig.daemon();
    rig.running().await;
    let after = rig.steps().await;
    assert_eq!(after["folder"], before["folder"]);
    assert_eq!(after["port"].reason, "Applied");
    rig.assert_one_node();
}

/// The host changed its driver while a cluster was there: what the other driver made
/// is unknown to this one, and not absent. It neither makes a second cluster nor lets
/// the row go.
#[tokio::test]
async fn a_cluster_of_another_driver_is_left_alone() {
    let rig = Rig::new().await;
    let sandbox = rig.daemon();
    rig.made().await;
    assert_eq!(status_message(&rig).await, "healthy: the probe succeeded");
    assert!(sandbox.stop().await.success());
    let before = rig.steps().await;
    let script = rig.builder().set("KINDLER_DRIVER", "script").spawn();
    rig.run("UPDATE clusters SET next_check_at = now(), pf_port = pf_port + 1")
        .await;
    rig.until_state("failed StepsUnknown").await;
    let said = status_message(&rig).await;
    let expected = "driver sandbox created folder, port, process, ready, about, and this daemon has \
                    driver script: start a daemon with KINDLER_DRIVER=sandbox";
    assert!(said.starts_with(expected), "{said}");
    script.full_passes(2).await;
    assert_eq!(rig.host.started("dev"), Vec::<String>::new());
    assert_eq!(rig.steps().await, before);
    rig.delete().await;
    rig.until_state("failed StepsUnknown").await;
    script.full_passes(2).await;
    assert_eq!(rig.host.started("dev"), Vec::<String>::new());
    rig.assert_one_node();
    assert!(script.stop().await.success());

    let _sandbox = rig.daemon();
    rig.run("UPDATE clusters SET retry_requested_at = clock_timestamp()")
        .await;
    rig.gone().await;
    rig.assert_nothing_left().await;
}

async fn status_message(rig: &Rig) -> String {
    rig.text("SELECT status_message FROM clusters").await
}
