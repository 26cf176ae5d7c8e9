//! Create, stop, start and delete, as the engine shows them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::rig::{NativeRig, docker};
use crate::kit::{Sql, TIMEOUT, claim_port, eventually, kindler};

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
    let daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    let published = rig.http();
    rig.database
        .run("UPDATE clusters SET http_port = 18999 WHERE name = 'fixed'")
        .await;
    rig.wait_shown("running | NeedsRecreation").await;
    assert!(
        rig.shown()
            .await
            .contains(&format!("but {published} is published"))
    );
    // It is checked further, and nothing is retried.
    let checked = "SELECT count(*) FROM cluster_events WHERE to_state IN ('updating', 'failed')";
    daemon.full_passes(2).await;
    assert_eq!(rig.database.number(checked).await, 0);
    let running = ["k3d-fixed-server-0 running", "k3d-fixed-serverlb running"];
    assert_eq!(rig.containers(), running);
    let applied =
        "SELECT (observed_spec_hash IS DISTINCT FROM spec_hash)::int::bigint FROM clusters";
    assert_eq!(rig.database.number(applied).await, 1);
    // The old value heals it.
    let back = format!("UPDATE clusters SET http_port = {published} WHERE name = 'fixed'");
    rig.database.run(&back).await;
    rig.wait_shown("running | Updated").await;
}

/// The request is durable: it is made while no daemon runs.
#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_person_requests_that_a_cluster_is_created_again() {
    let rig = NativeRig::new("renewed").await;
    let daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    let id = || docker(&["inspect", "--format", "{{.Id}}", &rig.server()]);
    let first = id();
    let free = claim_port();
    let port = format!(
        "UPDATE clusters SET http_port = {} WHERE name = 'renewed'",
        free.number
    );
    rig.database.run(&port).await;
    rig.wait_shown("running | NeedsRecreation").await;
    daemon.stop().await;
    let requested = kindler(&rig.database.url(), &rig.host)
        .args(["recreate", "renewed", "--yes"])
        .output()
        .unwrap();
    assert!(requested.status.success(), "{requested:?}");
    assert_eq!(id(), first);
    let _daemon = rig.start().await;
    rig.wait_shown("running | Created").await;
    assert_ne!(id(), first);
    let published = docker(&["port", "k3d-renewed-serverlb", "80/tcp"]);
    assert!(
        published.contains(&format!(":{}", free.number)),
        "{published}"
    );
    let left = "SELECT count(*) FROM clusters WHERE recreate_requested_at IS NOT NULL";
    assert_eq!(rig.database.number(left).await, 0);
    let events = "SELECT string_agg(kind || ' ' || coalesce(to_state, ''), ', ' ORDER BY id)
                  FROM cluster_events WHERE kind IN ('recreate', 'transition')
                  AND id >= (SELECT min(id) FROM cluster_events WHERE kind = 'recreate')";
    assert_eq!(
        rig.database.text(events).await,
        "recreate , transition deleting, transition unknown, transition creating, transition running"
    );
}

/// Most clusters vanish at once: that is a fault of the engine, not of the clusters.
#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn clusters_that_vanish_together_wait_for_a_person() {
    let rig = NativeRig::new("vanish-a").await;
    let daemon = rig
        .builder()
        .set("KINDLER_REPAIR_SUSPENSION", "1s")
        // Longer than the engine takes to remove them.
        .set("KINDLER_HEALTH_REPROBE", "3s")
        .start()
        .await;
    rig.declare("k3d").await;
    rig.database
        .run("INSERT INTO clusters (name, provider) VALUES ('vanish-b', 'k3d')")
        .await;
    let running = "SELECT count(*) FROM clusters WHERE actual_state = 'running'";
    eventually(TIMEOUT, "both run", || async {
        rig.database.number(running).await == 2
    })
    .await;
    let names = docker(&["ps", "-aq", "--filter", "name=vanish-"]);
    let mut remove = vec!["rm", "-f"];
    remove.extend(names.lines());
    docker(&remove);
    rig.wait_shown("running | RepairHeld | the cluster does not exist any more")
        .await;
    daemon
        .wait_metric(
            "kindler_finding{code=\"RecreationsSuspended\",severity=\"failure\"}",
            1.0,
        )
        .await;
    // Longer than the suspension of repairs, after which one would be tried.
    daemon.full_passes(2).await;
    assert_eq!(docker(&["ps", "-aq", "--filter", "name=vanish-"]), "");
    rig.database
        .run("UPDATE clusters SET retry_requested_at = now() WHERE name = 'vanish-a'")
        .await;
    rig.wait_shown("running | Created").await;
    rig.database
        .run("UPDATE clusters SET retry_requested_at = now() WHERE name = 'vanish-b'")
        .await;
    eventually(TIMEOUT, "both run again", || async {
        let names = docker(&["ps", "-q", "--filter", "name=vanish-"]);
        (names.lines().count() == 4).then_some(())
    })
    .await;
}
