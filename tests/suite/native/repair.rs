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

/// A create that ended at a phase with a daemon that got this signal.
async fn cut(provider: &str, phase: &str, name: &str, signal: Signal) -> (NativeRig, Vec<String>) {
    let rig = NativeRig::new(name).await;
    let once = rig.host.path().join("once");
    fs::write(&once, "").unwrap();
    let mut daemon = rig
        .builder()
        .set("K3D_STAND_IN_HANG", phase)
        .set("K3D_STAND_IN_ONCE", &once)
        .start()
        .await;
    rig.declare(provider).await;
    eventually(TIMEOUT, "the tool at the phase", || async {
        !once.exists()
    })
    .await;
    let left = rig.containers();
    assert!(!left.is_empty());
    daemon.signal(signal);
    daemon.ended(TIMEOUT).await;
    (rig, left)
}

/// Neither k3d nor kind has a rollback on a signal: each point leaves something else.
async fn interrupted(provider: &str, phase: &str, signal: Signal) {
    let name = format!("cut-{provider}-{phase}-{}", signal.as_raw());
    let (rig, left) = cut(provider, phase, &name, signal).await;
    let _successor = rig.start().await;
    rig.wait_running().await;
    let expected = match provider {
        "kind" => vec![format!("{name}-control-plane running")],
        _ => vec![
            format!("{} running", rig.server()),
            format!("k3d-{name}-serverlb running"),
        ],
    };
    assert_eq!(rig.containers(), expected, "it left {left:?}");
    rig.desire("absent").await;
    rig.wait_removed().await;
    assert_nothing_left(&rig);
}

fn assert_nothing_left(rig: &NativeRig) {
    assert_eq!(rig.containers(), Vec::<String>::new());
    let label = format!("label=k3d.cluster={}", rig.name);
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &label]), "");
    assert!(!rig.folder().exists());
}

macro_rules! interrupted {
    ($($test:ident: $provider:literal $phase:literal $signal:ident,)+) => {
        $(#[tokio::test]
        #[ignore = "needs a container engine: make test-engine"]
        async fn $test() {
            interrupted($provider, $phase, Signal::$signal).await;
        })+
    };
}

interrupted! {
    a_create_killed_after_the_tools_node_is_finished: "k3d" "tools" KILL,
    a_create_killed_before_the_first_start_is_finished: "k3d" "created" KILL,
    a_create_killed_after_the_server_is_finished: "k3d" "server" KILL,
    a_create_killed_before_its_kubeconfig_is_finished: "k3d" "balancer" KILL,
    a_kind_create_killed_before_the_start_is_finished: "kind" "created" KILL,
    a_kind_create_killed_before_its_kubeconfig_is_finished: "kind" "server" KILL,
    // The create takes longer than the daemon waits for it.
    a_create_cut_by_a_restart_of_the_daemon_is_finished: "k3d" "server" TERM,
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_create_killed_at_any_point_can_be_deleted() {
    for (provider, phase) in [
        ("k3d", "tools"),
        ("k3d", "created"),
        ("k3d", "balancer"),
        ("kind", "created"),
        ("kind", "server"),
    ] {
        let name = format!("swept-{provider}-{phase}");
        let (rig, left) = cut(provider, phase, &name, Signal::KILL).await;
        rig.desire("absent").await;
        let _successor = rig.start().await;
        rig.wait_removed().await;
        println!("{provider} {phase} left {left:?}");
        assert_nothing_left(&rig);
    }
}

/// `docker rm` leaves the volume and the context, and `k3d cluster delete` finds nothing then.
#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_cluster_removed_by_hand_leaves_nothing_behind() {
    let rig = NativeRig::new("byhand").await;
    let file = rig.host.path().join("user-config");
    let daemon = rig.builder().set("KUBECONFIG", &file).start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    rig.wait_step("context", "done").await;
    daemon.stop().await;
    docker(&["rm", "-f", &rig.server(), "k3d-byhand-serverlb"]);
    assert!(fs::read_to_string(&file).unwrap().contains("k3d-byhand"));
    rig.desire("absent").await;
    let _daemon = rig.builder().set("KUBECONFIG", &file).start().await;
    rig.wait_removed().await;
    assert_nothing_left(&rig);
    assert!(!fs::read_to_string(&file).unwrap().contains("byhand"));
}

/// The load balancer answers the connection, and nothing answers behind it.
#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn an_api_server_that_hangs_is_not_healthy() {
    let rig = NativeRig::new("silent").await;
    let _daemon = rig
        .builder()
        .set("KINDLER_PROBE_DEADLINE", "1s")
        .start()
        .await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    let workers =
        "for p in /proc/[0-9]*; do grep -qs nginx $p/comm && kill -STOP ${p#/proc/}; done";
    rig.shell(&rig.server(), workers);
    rig.wait_shown("did not answer within KINDLER_PROBE_DEADLINE=1s")
        .await;
    let awake = workers.replace("STOP", "CONT");
    rig.shell(&rig.server(), &awake);
    rig.wait_running().await;
}
