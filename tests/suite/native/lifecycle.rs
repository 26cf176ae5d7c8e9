//! Create, stop, start and delete, as the engine shows them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::rig::{NativeRig, docker};
use crate::kit::{Sql, TIMEOUT, eventually};

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_k3d_cluster_is_made_stopped_started_and_deleted() {
    let rig = NativeRig::new("life").await;
    let daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    let running = ["k3d-life-server-0 running", "k3d-life-serverlb running"];
    assert_eq!(rig.containers(), running);

    let kubeconfig = rig.folder().join("kubeconfig");
    let mode = fs::metadata(&kubeconfig).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let limits = "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}";
    let limits = docker(&["inspect", "--format", limits, "k3d-life-server-0"]);
    assert_eq!(limits, "1500000000 629145600 629145600");
    let steps = "SELECT string_agg(s.name || ' ' || s.state, ', ' ORDER BY s.position)
                 FROM cluster_steps s JOIN clusters c USING (uid) WHERE c.name = 'life'";
    assert_eq!(
        rig.database.text(steps).await,
        "network done, cluster done, limits done, kubeconfig done, images done, ready done, \
         ingress done, server_ip done, context done"
    );

    rig.desire("stopped").await;
    rig.wait_shown("stopped | ").await;
    let stopped = ["k3d-life-server-0 exited", "k3d-life-serverlb exited"];
    assert_eq!(rig.containers(), stopped);
    rig.desire("present").await;
    rig.wait_running().await;
    assert_eq!(rig.containers(), running);

    rig.desire("absent").await;
    rig.wait_removed().await;
    assert_eq!(rig.containers(), Vec::<String>::new());
    assert_eq!(
        docker(&["volume", "ls", "-q", "--filter", "name=k3d-life"]),
        ""
    );
    assert!(!rig.folder().exists());
    drop(daemon);
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_kind_cluster_is_made_stopped_started_and_deleted() {
    let rig = NativeRig::new("kindly").await;
    let _daemon = rig.start().await;
    rig.declare("kind").await;
    rig.wait_running().await;
    assert_eq!(rig.containers(), ["kindly-control-plane running"]);
    rig.desire("stopped").await;
    rig.wait_shown("stopped | ").await;
    assert_eq!(rig.containers(), ["kindly-control-plane exited"]);
    rig.desire("present").await;
    rig.wait_running().await;
    rig.desire("absent").await;
    rig.wait_removed().await;
    assert_eq!(rig.containers(), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_cluster_with_a_subnet_has_a_network_until_it_is_deleted() {
    let rig = NativeRig::new("subnetted").await;
    let _daemon = rig.start().await;
    rig.database
        .run("ALTER TABLE clusters ALTER COLUMN subnet SET DEFAULT '10.199.8.16/28'")
        .await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    let format = "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}";
    let network = docker(&["network", "inspect", "--format", format, "k3d-subnetted"]);
    assert_eq!(network, "10.199.8.16/28 10.199.8.17");
    // A row whose subnet overlaps is refused with the neighbour's name.
    let other = NativeRig::new("overlapping").await;
    let _other_daemon = other.start().await;
    other
        .database
        .run("ALTER TABLE clusters ALTER COLUMN subnet SET DEFAULT '10.199.8.0/24'")
        .await;
    other.declare("k3d").await;
    other
        .wait_shown("overlaps with that of the network k3d-subnetted")
        .await;
    assert_eq!(other.containers(), Vec::<String>::new());

    rig.desire("absent").await;
    rig.wait_removed().await;
    let networks = || docker(&["network", "ls", "-q", "--filter", "name=k3d-subnetted"]);
    eventually(TIMEOUT, "the network removed", || async {
        networks().is_empty()
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_port_that_cannot_be_changed_is_never_shown_as_applied() {
    let rig = NativeRig::new("fixed").await;
    let _daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    let published = rig.http();
    rig.database
        .run("UPDATE clusters SET http_port = 18999 WHERE name = 'fixed'")
        .await;
    rig.wait_shown("it needs to be created again").await;
    assert!(
        rig.shown()
            .await
            .contains(&format!("but {published} is published"))
    );
    let running = ["k3d-fixed-server-0 running", "k3d-fixed-serverlb running"];
    assert_eq!(rig.containers(), running);
    let applied =
        "SELECT (observed_spec_hash IS DISTINCT FROM spec_hash)::int::bigint FROM clusters";
    assert_eq!(rig.database.number(applied).await, 1);
    // The old value heals it.
    let back = format!("UPDATE clusters SET http_port = {published} WHERE name = 'fixed'");
    rig.database.run(&back).await;
    rig.wait_running().await;
}
