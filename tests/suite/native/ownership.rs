//! Only what a row made is changed or removed, and only on the engine that has it.

use std::fs;

use super::rig::{NativeRig, docker, tool};
use crate::kit::{Sql, kindler};

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_foreign_cluster_of_the_name_is_never_touched() {
    let rig = NativeRig::new("foreign").await;
    tool(
        "k3d",
        &[
            "cluster",
            "create",
            "foreign",
            "--network",
            "k3d-foreign-by-hand",
            "--kubeconfig-update-default=false",
        ],
    );
    let before = rig.containers();
    assert_eq!(before.len(), 2);
    let daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_shown("exists that this row did not make").await;
    rig.desire("absent").await;
    daemon.full_passes(2).await;
    assert_eq!(rig.containers(), before);
    let rows = "SELECT count(*) FROM clusters WHERE name = 'foreign'";
    assert_eq!(rig.database.number(rows).await, 1);
    tool("k3d", &["cluster", "delete", "foreign"]);
    rig.wait_removed().await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_row_that_was_taken_over_keeps_its_cluster() {
    let rig = NativeRig::new("adopted").await;
    rig.declare("k3d").await;
    let http = format!("{}:80@loadbalancer", rig.http());
    let https: i64 = rig
        .database
        .number("SELECT https_port::bigint FROM clusters")
        .await;
    let https = format!("{https}:443@loadbalancer");
    tool(
        "k3d",
        &[
            "cluster",
            "create",
            "adopted",
            "--network",
            "k3d-adopted-by-hand",
            "--port",
            &http,
            "--port",
            &https,
            "--kubeconfig-update-default=false",
        ],
    );
    let made = rig.containers();
    // As the old system left its rows.
    rig.database
        .run(
            "UPDATE clusters SET actual_state = 'running', observed_generation = generation,
              observed_spec_hash = spec_hash",
        )
        .await;
    let _daemon = rig.start().await;
    rig.wait_shown("running | ").await;
    assert_eq!(rig.containers(), made);
    // It is this row's from then on, whatever becomes of it.
    rig.desire("absent").await;
    rig.wait_removed().await;
    assert_eq!(rig.containers(), Vec::<String>::new());
}

/// A row that was declared stopped is settled without a cluster; that makes none its own.
#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_settled_row_owns_no_cluster_of_another() {
    let rig = NativeRig::new("settled").await;
    let daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    rig.desire("absent").await;
    rig.wait_removed().await;
    rig.database
        .run("INSERT INTO clusters (name, provider, desired_state) VALUES ('settled', 'k3d', 'stopped')")
        .await;
    rig.wait_shown("stopped | ").await;
    tool(
        "k3d",
        &[
            "cluster",
            "create",
            "settled",
            "--network",
            "k3d-settled-by-hand",
            "--kubeconfig-update-default=false",
        ],
    );
    let made = rig.containers();
    rig.desire("absent").await;
    rig.wait_shown("exists that this row did not make").await;
    daemon.full_passes(2).await;
    assert_eq!(rig.containers(), made);
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn another_engine_is_never_taken_for_an_empty_one() {
    let rig = NativeRig::new("elsewhere").await;
    let daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    daemon.stop().await;
    fs::write(
        rig.host.state_dir().join("native/engine"),
        "ANOTHER:ENGINE\n",
    )
    .unwrap();
    let daemon = rig.start().await;
    rig.wait_shown("another container engine answers").await;
    rig.desire("absent").await;
    daemon.full_passes(2).await;
    assert_eq!(rig.containers().len(), 2);
}

/// Makes the cluster of the rig by hand, with the ports that its row declares.
async fn make_by_hand(rig: &NativeRig) {
    let https: i64 = rig
        .database
        .number("SELECT https_port::bigint FROM clusters")
        .await;
    let (http, https) = (
        format!("{}:80@loadbalancer", rig.http()),
        format!("{https}:443@loadbalancer"),
    );
    let network = format!("k3d-{}-by-hand", rig.name);
    let mut command = vec!["cluster", "create", &rig.name, "--network", &network];
    command.extend(["--port", &http, "--port", &https]);
    command.push("--kubeconfig-update-default=false");
    tool("k3d", &command);
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_person_lets_a_row_take_over_a_foreign_cluster() {
    let rig = NativeRig::new("takeover").await;
    rig.database
        .run("ALTER TABLE clusters ALTER paused SET DEFAULT true")
        .await;
    rig.declare("k3d").await;
    make_by_hand(&rig).await;
    let made = rig.containers();
    let _daemon = rig.start().await;
    rig.database.run("UPDATE clusters SET paused = false").await;
    rig.wait_shown("failed | ").await;
    let shown = rig.shown().await;
    assert!(
        shown.contains("kindler adopt takeover") && shown.contains("k3d cluster delete takeover"),
        "{shown}"
    );
    let adopted = kindler(&rig.database.url(), &rig.host)
        .args(["adopt", "takeover", "--wait", "--timeout", "60s"])
        .output()
        .unwrap();
    assert!(adopted.status.success(), "{adopted:?}");
    assert_eq!(rig.containers(), made);
    let recorded = "SELECT concat_ws(' ', driver, engine) FROM clusters";
    let engine = docker(&["info", "--format", "{{.ID}}"]);
    assert_eq!(
        rig.database.text(recorded).await,
        format!("native {engine}")
    );
    let events = "SELECT count(*) FROM cluster_events WHERE kind = 'adopt' AND actor <> ''";
    assert_eq!(rig.database.number(events).await, 1);
    rig.desire("absent").await;
    rig.wait_removed().await;
    assert_eq!(rig.containers(), Vec::<String>::new());
}

/// Another host, whose engine has none of the clusters, must not take them for gone.
#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_row_of_another_engine_is_not_taken_for_gone() {
    let rig = NativeRig::new("placed").await;
    let daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    let made = rig.containers();
    rig.database
        .run("UPDATE clusters SET engine = 'ANOTHER:ENGINE', next_check_at = now()")
        .await;
    rig.wait_shown("this cluster was made on ANOTHER:ENGINE")
        .await;
    assert!(rig.shown().await.starts_with("running | ObservationFailed"));
    rig.desire("absent").await;
    daemon.full_passes(2).await;
    assert_eq!(rig.containers(), made);
    rig.database
        .run("UPDATE clusters SET adopt_requested_at = now()")
        .await;
    rig.wait_removed().await;
    assert_eq!(rig.containers(), Vec::<String>::new());
}
