//! Drift of one step, and a changed input of some steps, run only these steps; the
//! cluster keeps running.

use std::collections::BTreeMap;
use std::fs;

use super::STEPS;
use super::rig::{STEPS_TIMEOUT, StepRow, StepsRig};
use crate::kit::{Sql, eventually};

/// The steps that have begun again.
fn restarted_steps(
    before: &BTreeMap<String, StepRow>,
    after: &BTreeMap<String, StepRow>,
) -> Vec<&'static str> {
    let begun = |name: &&str| before[*name].started != after[*name].started;
    STEPS.into_iter().filter(begun).collect()
}

/// The number of transitions of `dev` since this event.
async fn transitions_since(rig: &StepsRig, since: &str) -> String {
    rig.sql
        .text(&format!(
            "SELECT count(*)::text FROM cluster_events WHERE kind = 'transition' AND id > {since}"
        ))
        .await
}

async fn last_event(rig: &StepsRig) -> String {
    rig.sql
        .text("SELECT max(id)::text FROM cluster_events")
        .await
}

#[tokio::test]
async fn a_deleted_text_file_reruns_only_its_step() {
    let rig = StepsRig::new().await;
    let _daemon = rig.daemon();
    rig.declare_and_wait().await;
    let (before, since, pid) = (rig.steps().await, last_event(&rig).await, rig.nodes());
    fs::remove_file(rig.about()).unwrap();
    eventually(
        STEPS_TIMEOUT,
        "the text file, and its step done again",
        || async {
            rig.about().exists() && rig.steps().await["about"].started != before["about"].started
        },
    )
    .await;
    rig.wait_running().await;
    assert_eq!(restarted_steps(&before, &rig.steps().await), ["about"]);
    assert_eq!(transitions_since(&rig, &since).await, "0");
    assert_eq!(rig.nodes(), pid);
}

/// Writing to a link would change its target; writing to a pipe would block the whole
/// daemon.
#[tokio::test]
async fn a_link_or_pipe_in_place_of_the_text_file_is_replaced() {
    let rig = StepsRig::new().await;
    let _daemon = rig.daemon();
    rig.declare_and_wait().await;
    let target = rig.folder().join("foreign");
    fs::write(&target, "untouched").unwrap();
    for kind in ["link", "pipe"] {
        fs::remove_file(rig.about()).unwrap();
        if kind == "link" {
            std::os::unix::fs::symlink(&target, rig.about()).unwrap();
        } else {
            let made = std::process::Command::new("mkfifo")
                .arg(rig.about())
                .status();
            assert!(made.unwrap().success());
        }
        eventually(STEPS_TIMEOUT, kind, || async {
            fs::symlink_metadata(rig.about()).is_ok_and(|there| there.is_file())
        })
        .await;
        rig.wait_running().await;
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
}

#[tokio::test]
async fn a_deleted_port_claim_reruns_only_its_step() {
    let rig = StepsRig::new().await;
    let _daemon = rig.daemon();
    rig.declare_and_wait().await;
    let (before, since, pid) = (rig.steps().await, last_event(&rig).await, rig.nodes());
    fs::remove_file(rig.claim()).unwrap();
    eventually(
        STEPS_TIMEOUT,
        "the port claim, and its step done again",
        || async {
            fs::symlink_metadata(rig.claim()).is_ok()
                && rig.steps().await["port"].started != before["port"].started
        },
    )
    .await;
    rig.wait_running().await;
    assert_eq!(restarted_steps(&before, &rig.steps().await), ["port"]);
    assert_eq!(transitions_since(&rig, &since).await, "0");
    assert_eq!(rig.nodes(), pid);
}

#[tokio::test]
async fn a_killed_node_reruns_only_its_step() {
    let rig = StepsRig::new().await;
    let _daemon = rig.daemon();
    rig.declare_and_wait().await;
    let before = rig.steps().await;
    let (folder, claim) = (
        StepsRig::inode(&rig.folder()),
        StepsRig::inode(&rig.claim()),
    );
    let pid = rig.record().process.pid;
    rig.kill_node();
    eventually(STEPS_TIMEOUT, "another node", || async {
        rig.record().process.pid != pid
    })
    .await;
    rig.wait_running().await;
    assert_eq!(restarted_steps(&before, &rig.steps().await), ["process"]);
    assert_eq!(StepsRig::inode(&rig.folder()), folder);
    assert_eq!(StepsRig::inode(&rig.claim()), claim);
    rig.assert_one_node();
}

#[tokio::test]
async fn a_changed_port_reruns_the_dependent_steps() {
    let mut rig = StepsRig::new().await;
    let _daemon = rig.daemon();
    rig.declare_and_wait().await;
    let (before, folder, claim) = (
        rig.steps().await,
        StepsRig::inode(&rig.folder()),
        StepsRig::inode(&rig.claim()),
    );
    let old = rig.change_port().await;
    rig.wait_running().await;
    let after = rig.steps().await;
    let again = ["port", "process", "ready", "about"];
    assert_eq!(restarted_steps(&before, &after), again);
    assert!(again.iter().all(|name| after[*name].attempt == 1));
    assert_eq!(StepsRig::inode(&rig.folder()), folder);
    assert_ne!(StepsRig::inode(&rig.claim()), claim);
    rig.assert_one_node();
    let old = rig.sandbox().join(".ports").join(old.number.to_string());
    assert!(
        fs::symlink_metadata(old).is_err(),
        "the old port claim still exists"
    );
}

#[tokio::test]
async fn a_new_generation_does_not_restart_the_node() {
    let rig = StepsRig::new().await;
    let _daemon = rig.daemon();
    rig.declare_and_wait().await;
    let (before, pid) = (rig.steps().await, rig.nodes());
    rig.sql
        .run("UPDATE clusters SET pf_port = pf_port + 1")
        .await;
    rig.wait_running().await;
    assert_eq!(restarted_steps(&before, &rig.steps().await), ["process"]);
    assert_eq!(rig.nodes(), pid);
    assert_eq!(rig.record().generation, 2);
}

#[tokio::test]
async fn missing_step_records_are_rebuilt_by_observation() {
    let rig = StepsRig::new().await;
    let first = rig.daemon();
    rig.declare_and_wait().await;
    assert!(first.stop().await.success());
    // The state that a release without steps leaves; it recorded no UID either.
    let pid = rig.nodes();
    rig.sql.run("DELETE FROM cluster_steps").await;
    let record = rig.folder().join("node.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    json.as_object_mut().unwrap().remove("uid");
    fs::write(&record, json.to_string()).unwrap();
    fs::remove_file(rig.claim()).unwrap();
    let _daemon = rig.daemon();
    rig.wait_running().await;
    let steps = rig.steps().await;
    assert_eq!(steps["folder"].reason, "Verified");
    assert_eq!(steps["ready"].reason, "Verified");
    assert_eq!(steps["about"].reason, "Verified");
    assert_eq!(rig.nodes(), pid);
    rig.assert_one_node();
}
