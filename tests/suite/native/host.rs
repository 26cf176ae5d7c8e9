//! Faults of the host: the engine or a tool is missing. They cost no attempt and end by themselves.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::rig::{self, NativeRig, engine};
use crate::kit::{Sql, TIMEOUT, eventually, kindler_output};

const ATTEMPTS: &str = "SELECT failed_attempts::bigint FROM clusters";

/// Writes a program that runs this shell text.
fn program(path: &Path, text: &str) {
    let part = path.with_extension("part");
    fs::write(&part, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&part, Permissions::from_mode(0o755)).unwrap();
    fs::rename(part, path).unwrap();
}

/// What `kindler status` says of the host, until it contains this.
async fn wait_status(rig: &NativeRig, wanted: &str) {
    let what = format!("kindler status with {wanted}");
    eventually(TIMEOUT, &what, || async {
        let (status, _) = kindler_output(&rig.database.url(), &rig.host, &["status"]);
        status.contains(wanted).then_some(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_cluster_waits_for_an_engine_without_attempts() {
    let rig = NativeRig::new("waits-engine").await;
    let socket = rig.host.path().join("docker.sock");
    let daemon = rig
        .builder()
        .set("DOCKER_HOST", format!("unix://{}", socket.display()));
    let daemon = daemon.start().await;
    rig.declare("k3d").await;
    rig.wait_shown("HostUnusable | waiting for this host: the container engine cannot be reached")
        .await;
    wait_status(&rig, "HostUnusable: the container engine cannot be reached").await;
    daemon.full_passes(2).await;
    assert_eq!(rig.database.number(ATTEMPTS).await, 0);
    let metrics = daemon.get("/metrics").await.unwrap().1;
    assert!(metrics.contains(r#"kindler_finding{code="HostUnusable",severity="failure"} 1"#));
    symlink(engine().trim_start_matches("unix://"), &socket).unwrap();
    rig.wait_running().await;
    eventually(TIMEOUT, "the end of the finding", || async {
        let metrics = daemon.get("/metrics").await?.1;
        (!metrics.contains(r#"code="HostUnusable",severity="failure"} 1"#)).then_some(())
    })
    .await;
    assert_eq!(rig.database.number(ATTEMPTS).await, 0);
    rig.desire("absent").await;
    rig.wait_removed().await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_cluster_waits_for_its_tool_without_attempts() {
    let rig = NativeRig::new("waits-tool").await;
    let tools = rig.host.path().join("tools");
    fs::create_dir(&tools).unwrap();
    // The usual folders, because the tests' own PATH has the tools.
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.display());
    let daemon = rig.builder().set("PATH", path).start().await;
    // The other provider's tool is there, so only this cluster makes its absence a fault.
    program(
        &tools.join("kind"),
        &format!("exec {}/kind \"$@\"", rig::tools()),
    );
    rig.declare("k3d").await;
    rig.wait_shown("HostUnusable | waiting for this host: k3d is not found in the PATH")
        .await;
    wait_status(
        &rig,
        "HostUnusable: k3d is not found in the PATH of the daemon; next: install k3d",
    )
    .await;
    program(&tools.join("k3d"), "echo k3d version v4.4.8");
    rig.wait_shown("k3d 4.4 is too old; next: install k3d 5.0 or newer")
        .await;
    daemon.full_passes(2).await;
    assert_eq!(rig.database.number(ATTEMPTS).await, 0);
    // It answers later, although its file does not change.
    let free = tools.join("free");
    let late = format!(
        "[ -e {} ] || {{ echo busy >&2; exit 1; }}; exec {}/k3d \"$@\"",
        free.display(),
        rig::tools()
    );
    program(&tools.join("k3d"), &late);
    rig.wait_shown("k3d version` exited with code 1: busy")
        .await;
    fs::write(free, "").unwrap();
    rig.wait_running().await;
    rig.desire("absent").await;
    rig.wait_removed().await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_cluster_that_was_never_made_is_removed_without_tools() {
    let rig = NativeRig::new("never-made").await;
    let _daemon = rig.builder().set("PATH", "/usr/bin:/bin").start().await;
    rig.declare("k3d").await;
    rig.wait_shown("HostUnusable").await;
    rig.desire("absent").await;
    rig.wait_removed().await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn the_docker_context_in_use_names_the_engine() {
    let rig = NativeRig::new("of-context").await;
    let config = rig.host.path().join("docker");
    let context = |args: &[&str]| {
        let done = Command::new("docker")
            .env_remove("DOCKER_HOST")
            .env("DOCKER_CONFIG", &config)
            .arg("context")
            .args(args)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    context(&[
        "create",
        "away",
        "--docker",
        "host=unix:///nowhere/docker.sock",
    ]);
    context(&["create", "tests", "--docker", &format!("host={}", engine())]);
    context(&["use", "away"]);
    let config = config.to_str().unwrap();
    let builder = rig
        .builder()
        .set("DOCKER_HOST", "")
        .set("DOCKER_CONFIG", config);
    let _daemon = builder.start().await;
    rig.declare("kind").await;
    rig.wait_shown("HostUnusable | waiting for this host: the container engine cannot be reached")
        .await;
    context(&["use", "tests"]);
    rig.wait_running().await;
    rig.desire("absent").await;
    rig.wait_removed().await;
}
