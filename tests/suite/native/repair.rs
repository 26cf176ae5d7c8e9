//! Repair by what is broken, and creates that were interrupted at each point.

use std::fs;

use rustix::process::Signal;

use super::rig::{NativeRig, docker};
use crate::kit::{TIMEOUT, eventually};

/// The identity of a container: another one after it was made again.
fn id(container: &str) -> String {
    docker(&["inspect", "--format", "{{.Id}}", container])
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn what_is_broken_is_repaired_without_a_new_cluster() {
    let rig = NativeRig::new("mended").await;
    let _daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    let (server, balancer) = (rig.server(), "k3d-mended-serverlb");
    let made = id(&server);
    let running = ["k3d-mended-server-0 running", "k3d-mended-serverlb running"];
    let faults: [&[&str]; 4] = [
        &["stop", "-t", "0", balancer],
        &["stop", "-t", "0", &server],
        &["pause", &server],
        &["pause", balancer],
    ];
    for fault in faults {
        docker(fault);
        eventually(TIMEOUT, &format!("repaired after {fault:?}"), || async {
            rig.containers() == running && rig.shown().await.starts_with("running | ")
        })
        .await;
        assert_eq!(id(&server), made, "{fault:?}");
    }
    let kubeconfig = rig.folder().join("kubeconfig");
    fs::remove_file(&kubeconfig).unwrap();
    eventually(TIMEOUT, "a kubeconfig again", || async {
        kubeconfig.exists()
    })
    .await;
    rig.wait_running().await;
    assert_eq!(id(&server), made);
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_cluster_whose_server_was_removed_is_made_again() {
    let rig = NativeRig::new("reborn").await;
    let _daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    let made = id(&rig.server());
    docker(&["rm", "-f", &rig.server()]);
    eventually(TIMEOUT, "a new server", || async {
        let now = id(&rig.server());
        !now.is_empty() && now != made && rig.shown().await.starts_with("running | ")
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_node_that_is_not_ready_is_shown_with_its_condition() {
    let rig = NativeRig::new("notready").await;
    let _daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    let write = |status: &str| {
        let nodes = format!(
            r#"{{"items":[{{"metadata":{{"name":"server-0"}},"status":{{"conditions":[{{"type":"Ready",
            "status":"{status}","reason":"KubeletNotReady","message":"no CNI plugin"}}]}}}}]}}"#
        );
        let shell = format!("cat > /www/nodes.json <<'END'\n{nodes}\nEND");
        docker(&["exec", &rig.server(), "/bin/sh", "-c", &shell]);
    };
    write("False");
    rig.wait_shown("node server-0 is not ready: KubeletNotReady: no CNI plugin")
        .await;
    write("True");
    rig.wait_running().await;
}

/// k3d has no rollback on a signal: each point leaves something else.
async fn interrupted(phase: &str) {
    let rig = NativeRig::new(&format!("cut-{phase}")).await;
    let once = rig.host.path().join("once");
    fs::write(&once, "").unwrap();
    let daemon = rig
        .builder()
        .set("K3D_STAND_IN_HANG", phase)
        .set("K3D_STAND_IN_ONCE", &once)
        .start()
        .await;
    rig.declare("k3d").await;
    eventually(TIMEOUT, "k3d at the phase", || async { !once.exists() }).await;
    let left = rig.containers();
    assert!(!left.is_empty());
    daemon.signal(Signal::KILL);
    let _successor = rig.start().await;
    rig.wait_running().await;
    let (server, balancer) = (rig.server(), format!("k3d-cut-{phase}-serverlb"));
    let expected = [format!("{server} running"), format!("{balancer} running")];
    assert_eq!(rig.containers(), expected, "it left {left:?}");
    rig.desire("absent").await;
    rig.wait_removed().await;
    assert_eq!(rig.containers(), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_create_killed_after_the_tools_node_is_finished() {
    interrupted("tools").await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_create_killed_before_the_first_start_is_finished() {
    interrupted("created").await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_create_killed_after_the_server_is_finished() {
    interrupted("server").await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_create_killed_before_its_kubeconfig_is_finished() {
    interrupted("balancer").await;
}
