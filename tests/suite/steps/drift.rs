//! Drift of one step, and a changed input of some, run just these; the cluster
//! keeps running.

use std::collections::BTreeMap;
use std::fs;

use super::STEPS;
use super::rig::{Recorded, Rig, SOON};
use crate::kit::{claim_port, eventually};

/// Which steps have begun again.
fn begun_again(
    before: &BTreeMap<String, Recorded>,
    after: &BTreeMap<String, Recorded>,
) -> Vec<&'static str> {
    let begun = |name: &&str| before[*name].started != after[*name].started;
    STEPS.into_iter().filter(begun).collect()
}

/// Every state that `dev` was in since the event of this number.
async fn left_running(rig: &Rig, since: &str) -> String {
    rig.text(&format!(
        "SELECT count(*)::text FROM cluster_events WHERE kind = 'transition' AND id > {since}"
    ))
    .await
}

async fn last_event(rig: &Rig) -> String {
    rig.text("SELECT max(id)::text FROM cluster_events").await
}

#[tokio::test]
async fn a_lost_text_is_written_again_alone() {
    let rig = Rig::new().await;
    let _daemon = rig.daemon();
    rig.made().await;
    let (before, since, pid) = (rig.steps().await, last_event(&rig).await, rig.nodes());
    fs::remove_file(rig.about()).unwrap();
    eventually(SOON, "the text to be back", || async {
        rig.about().exists() && rig.steps().await["about"].started != before["about"].started
    })
    .await;
    rig.running().await;
    assert_eq!(begun_again(&before, &rig.steps().await), ["about"]);
    assert_eq!(left_running(&rig, &since).await, "0");
    assert_eq!(rig.nodes(), pid);
}

/// A link would be written through, a pipe would hold up the whole daemon.
#[tokio::test]
async fn a_link_and_a_pipe_in_place_of_the_text_are_replaced() {
    let rig = Rig::new().await;
    let _daemon = rig.daemon();
    rig.made().await;
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
        eventually(SOON, kind, || async {
            fs::symlink_metadata(rig.about()).is_ok_and(|there| there.is_file())
        })
        .await;
        rig.running().await;
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
}

#[tokio::test]
async fn a_lost_port_claim_is_made_again_alone() {
    let rig = Rig::new().await;
    let _daemon = rig.daemon();
    rig.made().await;
    let (before, since, pid) = (rig.steps().await, last_event(&rig).await, rig.nodes());
    fs::remove_file(rig.claim()).unwrap();
    eventually(SOON, "the claim to be back", || async {
        fs::symlink_metadata(rig.claim()).is_ok()
            && rig.steps().await["port"].started != before["port"].started
    })
    .await;
    rig.running().await;
    assert_eq!(begun_again(&before, &rig.steps().await), ["port"]);
    assert_eq!(left_running(&rig, &since).await, "0");
    assert_eq!(rig.nodes(), pid);
}

#[tokio::test]
async fn a_killed_node_is_started_again_alone() {
    let rig = Rig::new().await;
    let _daemon = rig.daemon();
    rig.made().await;
    let before = rig.steps().await;
    let (folder, claim) = (Rig::inode(&rig.folder()), Rig::inode(&rig.claim()));
    let pid = rig.record().process.pid;
    rig.kill_node();
    eventually(SOON, "another node", || async {
        rig.record().process.pid != pid
    })
    .await;
    rig.running().await;
    assert_eq!(begun_again(&before, &rig.steps().await), ["process"]);
    assert_eq!(Rig::inode(&rig.folder()), folder);
    assert_eq!(Rig::inode(&rig.claim()), claim);
    rig.assert_one_node();
}

#[tokio::test]
async fn a_changed_port_runs_the_steps_that_depend_on_it() {
    let mut rig = Rig::new().await;
    let _daemon = rig.daemon();
    rig.made().await;
    let (before, folder, claim) = (
        rig.steps().await,
        Rig::inode(&rig.folder()),
        Rig::inode(&rig.claim()),
    );
    let old = std::mem::replace(&mut rig.port, claim_port());
    let port = rig.port.number;
    rig.run(&format!("UPDATE clusters SET http_port = {port}"))
        .await;
    rig.running().await;
    let after = rig.steps().await;
    let again = ["port", "process", "ready", "about"];
    assert_eq!(begun_again(&before, &after), again);
    assert!(again.iter().all(|name| after[*name].attempt == 1));
    assert_eq!(Rig::inode(&rig.folder()), folder);
    assert_ne!(Rig::inode(&rig.claim()), claim);
    rig.assert_one_node();
    let old = rig.sandbox().join(".ports").join(old.number.to_string());
    assert!(fs::symlink_metadata(old).is_err(), "the old claim is left");
}

#[tokio::test]
async fn another_generation_restarts_nothing() {
    let rig = Rig::new().await;
    let _daemon = rig.daemon();
    rig.made().await;
    let (before, pid) = (rig.steps().await, rig.nodes());
    rig.run("UPDATE clusters SET pf_port = pf_port + 1").await;
    rig.running().await;
    assert_eq!(begun_again(&before, &rig.steps().await), ["process"]);
    assert_eq!(rig.nodes(), pid);
    assert_eq!(rig.record().generation, 2);
}

#[tokio::test]
async fn a_row_without_records_gets_them_by_looking() {
    let rig = Rig::new().await;
    let first = rig.daemon();
    rig.made().await;
    assert!(first.stop().await.success());
    // As a release without steps left it, which recorded no identity either.
    let pid = rig.nodes();
    rig.run("DELETE FROM cluster_steps").await;
    let record = rig.folder().join("node.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    json.as_object_mut().unwrap().remove("uid");
    fs::write(&record, json.to_string()).unwrap();
    fs::remove_file(rig.claim()).unwrap();
    let _daemon = rig.daemon();
    rig.running().await;
    let steps = rig.steps().await;
    assert_eq!(steps["folder"].reason, "Verified");
    assert_eq!(steps["ready"].reason, "Verified");
    assert_eq!(steps["about"].reason, "Verified");
    assert_eq!(rig.nodes(), pid);
    rig.assert_one_node();
}
