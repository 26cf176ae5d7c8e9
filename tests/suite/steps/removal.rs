//! Steps are removed last to first. If a step cannot be removed and the cluster does
//! not require it, its removal is given up, which the events show.

use super::rig::{STEPS_TIMEOUT, StepsRig};
use crate::kit::{Sql, eventually};

#[tokio::test]
async fn steps_are_removed_last_to_first() {
    let rig = StepsRig::new().await;
    let _daemon = rig.daemon();
    rig.declare_and_wait().await;
    let made = rig.step_events().await.len();
    rig.delete().await;
    rig.wait_removed().await;
    rig.assert_nothing_left().await;
    // The removal of the row ends the last step, `folder`.
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

/// Waits until the row is removed; returns its step events after the first `made`.
async fn given_up(rig: &StepsRig, made: usize) -> Vec<String> {
    rig.delete().await;
    rig.wait_removed().await;
    rig.assert_nothing_left().await;
    rig.step_events().await.split_off(made)
}

#[tokio::test]
async fn a_best_effort_removal_is_given_up_after_three() {
    let rig = StepsRig::new().await;
    let first = rig.daemon();
    rig.declare_and_wait().await;
    // The text file is not observed before its removal.
    first.kill();
    rig.obstruct_about();
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
    let text = "SELECT message FROM cluster_events WHERE reason = 'GivenUp'";
    let text = rig.sql.text(text).await;
    assert!(
        text.contains("given up after 3 attempts, something may be left"),
        "{text}"
    );
    let visible = "SELECT string_agg(DISTINCT coalesce(reason, '') || ' ' || (message LIKE '%step about: %'), ',')
                   FROM cluster_events WHERE kind IN ('transition', 'attempt') AND to_state = 'failed'";
    assert_eq!(rig.sql.text(visible).await, "DeleteFailed true");
}

/// Attempts to create a step do not count as attempts to remove it.
#[tokio::test]
async fn create_failures_do_not_count_as_removal_attempts() {
    let rig = StepsRig::new().await;
    let _daemon = rig.builder().set("KINDLER_BACKOFF_MAX", "1s").spawn();
    rig.declare_and_wait().await;
    rig.obstruct_about();
    eventually(STEPS_TIMEOUT, "the fourth failure to create it", || async {
        let about = rig.steps().await.remove("about").unwrap();
        about.state == "failed" && about.attempt >= 4
    })
    .await;
    rig.delete().await;
    rig.wait_removed().await;
    rig.assert_nothing_left().await;
    let removal =
        "SELECT string_agg(attempt || ' ' || reason, ', ' ORDER BY id) FROM cluster_events
                   WHERE kind = 'step' AND reason IN ('RemovalFailed', 'GivenUp')";
    assert_eq!(
        rig.sql.text(removal).await,
        "1 RemovalFailed, 2 RemovalFailed, 3 GivenUp"
    );
}

#[tokio::test]
async fn a_recreated_step_counts_attempts_from_one() {
    let rig = StepsRig::new().await;
    let _daemon = rig.daemon();
    rig.declare_and_wait().await;
    let blocked = rig.block_step_end("process", "removed").await;
    rig.delete().await;
    rig.wait_blocked().await;
    rig.sql
        .run("UPDATE clusters SET desired_state = 'present'")
        .await;
    blocked.release().await;
    rig.wait_running().await;
    let steps = rig.steps().await;
    assert!(steps.values().all(|step| step.attempt == 1), "{steps:?}");
    rig.assert_one_node();
}
