//! Steps are removed last to first; what cannot be removed is given up, visibly, if
//! the cluster does not need it.

use std::fs;

use super::rig::{Rig, SOON};
use crate::kit::eventually;

/// Puts a folder in the place of the text, which even root cannot remove as a file.
fn obstruct(rig: &Rig) {
    let _ = fs::remove_file(rig.about());
    fs::create_dir(rig.about()).unwrap();
    fs::write(rig.about().join("in-the-way"), "").unwrap();
}

#[tokio::test]
async fn steps_are_removed_last_to_first() {
    let rig = Rig::new().await;
    let _daemon = rig.daemon();
    rig.made().await;
    let made = rig.step_events().await.len();
    rig.delete().await;
    rig.gone().await;
    rig.assert_nothing_left().await;
    // The folder's end is the removal of the row.
    let events = rig.step_events().await.split_off(made);
    assert_eq!(
        events,
        [
            "about Removed",
            "ready Removed",
            "process Removed",
            "port Removed"
        ]
    );
}

/// Waits until the removal was given up and the row is gone; its events of steps
/// since the first `made`.
async fn given_up(rig: &Rig, made: usize) -> Vec<String> {
    rig.delete().await;
    rig.gone().await;
    rig.assert_nothing_left().await;
    rig.step_events().await.split_off(made)
}

#[tokio::test]
async fn a_best_effort_removal_is_given_up_after_three() {
    let rig = Rig::new().await;
    let first = rig.daemon();
    rig.made().await;
    // The text is not looked at before its removal.
    first.kill();
    obstruct(&rig);
    let made = rig.step_events().await.len();
    rig.delete().await;
    let _daemon = rig.daemon();
    let events = given_up(&rig, made).await;
    assert_eq!(
        events,
        [
            "about RemovalFailed",
            "about RemovalFailed",
            "about GivenUp",
            "ready Removed",
            "process Removed",
            "port Removed"
        ]
    );
    let told = "SELECT message FROM cluster_events WHERE reason = 'GivenUp'";
    let told = rig.text(told).await;
    assert!(
        told.contains("given up after 3 attempts, something may be left"),
        "{told}"
    );
    let visible = "SELECT string_agg(DISTINCT coalesce(reason, '') || ' ' || (message LIKE '%step about: %'), ',')
                   FROM cluster_events WHERE kind IN ('transition', 'attempt') AND to_state = 'failed'";
    assert_eq!(rig.text(visible).await, "DeleteFailed true");
}

/// Attempts to make a step say nothing about attempts to remove it.
#[tokio::test]
async fn failures_to_make_do_not_count_for_the_removal() {
    let rig = Rig::new().await;
    let _daemon = rig.builder().set("KINDLER_BACKOFF_MAX", "1s").spawn();
    rig.made().await;
    obstruct(&rig);
    eventually(SOON, "the fourth failure to make it", || async {
        let about = rig.steps().await.remove("about").unwrap();
        about.state == "failed" && about.attempt >= 4
    })
    .await;
    rig.delete().await;
    rig.gone().await;
    rig.assert_nothing_left().await;
    let removal =
        "SELECT string_agg(attempt || ' ' || reason, ', ' ORDER BY id) FROM cluster_events
                   WHERE kind = 'step' AND reason IN ('RemovalFailed', 'GivenUp')";
    assert_eq!(
        rig.text(removal).await,
        "1 RemovalFailed, 2 RemovalFailed, 3 GivenUp"
    );
}

#[tokio::test]
async fn a_step_that_is_made_again_counts_from_one() {
    let rig = Rig::new().await;
    let _daemon = rig.daemon();
    rig.made().await;
    let held = rig.hold_end("process", "removed").await;
    rig.delete().await;
    rig.until_held().await;
    rig.run("UPDATE clusters SET desired_state = 'present'")
        .await;
    held.release().await;
    rig.running().await;
    let steps = rig.steps().await;
    assert!(steps.values().all(|step| step.attempt == 1), "{steps:?}");
    rig.assert_one_node();
}
