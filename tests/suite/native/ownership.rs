//! Only what a row made is changed or removed, and only on the engine that has it.

use std::fs;

use super::rig::{NativeRig, tool};
use crate::kit::Sql;

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
