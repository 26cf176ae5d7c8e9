//! The kubeconfig of the user, as kubectl reads and writes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::rig::NativeRig;
use crate::kit::{Daemon, TIMEOUT, eventually, kindler_output};

/// A program that the set-up installs.
fn kubectl(file: &Path, args: &[&str]) -> Output {
    let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/venv/bin/kubectl");
    let program = match Path::new(installed).exists() {
        true => installed,
        false => "kubectl",
    };
    Command::new(program)
        .env("KUBECONFIG", file)
        .args(args)
        .output()
        .unwrap()
}

fn contexts(file: &Path) -> Vec<String> {
    let listed = kubectl(file, &["config", "get-contexts", "-o", "name"]);
    let text = String::from_utf8(listed.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

async fn with_file(rig: &NativeRig, content: &str) -> (Daemon, PathBuf) {
    let file = rig.host.path().join("user-config");
    fs::write(&file, content).unwrap();
    let builder = rig.builder().set("KUBECONFIG", file.to_str().unwrap());
    (builder.start().await, file)
}

/// What a person wrote.
const OF_USER: &str = "apiVersion: v1\nkind: Config\nx-team: \"0123\"\ncurrent-context: mine\n\
    clusters:\n- name: mine\n  cluster: {server: \"https://mine:1\"}\nusers:\n- name: me\n  user: \
    {token: abc}\ncontexts:\n- name: mine\n  context: {cluster: mine, user: me, namespace: shop}\n";

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn kubectl_reaches_a_cluster_by_its_context() {
    let rig = NativeRig::new("merged").await;
    let (_daemon, file) = with_file(&rig, OF_USER).await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    rig.wait_step("context", "done").await;
    assert_eq!(contexts(&file), ["k3d-merged", "mine"]);
    let nodes = kubectl(
        &file,
        &["--context", "k3d-merged", "get", "--raw", "/api/v1/nodes"],
    );
    let answer = String::from_utf8_lossy(&nodes.stdout).into_owned();
    assert!(answer.contains("server-0"), "{nodes:?}");
    let content = fs::read_to_string(&file).unwrap();
    for kept in [
        "x-team: \"0123\"",
        "current-context: mine",
        "namespace: shop",
    ] {
        assert!(content.contains(kept), "{content}");
    }

    // A context that leads to another cluster is made right, and its namespace stays.
    for args in [
        &["config", "set-context", "k3d-merged", "--namespace", "x"][..],
        &[
            "config",
            "set-cluster",
            "k3d-merged",
            "--server",
            "https://127.0.0.1:1",
        ],
    ] {
        assert!(kubectl(&file, args).status.success());
    }
    rig.check().await;
    eventually(TIMEOUT, "the context of this cluster", || async {
        let content = fs::read_to_string(&file).unwrap_or_default();
        !content.contains("https://127.0.0.1:1\"") && content.contains("namespace: x")
    })
    .await;
    rig.wait_running().await;

    rig.desire("absent").await;
    rig.wait_removed().await;
    assert_eq!(contexts(&file), ["mine"]);
    let content = fs::read_to_string(&file).unwrap();
    assert!(!content.contains("merged"), "{content}");
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn parallel_merges_beside_kubectl_lose_nothing() {
    let mut rigs = Vec::new();
    for at in 0..5 {
        rigs.push(NativeRig::new(&format!("par-{at}")).await);
    }
    let file = rigs[0].host.path().join("user-config");
    fs::write(&file, OF_USER).unwrap();
    let path = file.to_str().unwrap();
    let mut daemons = Vec::new();
    for rig in &rigs {
        daemons.push(rig.builder().set("KUBECONFIG", path).start().await);
        rig.declare("kind").await;
    }
    // kubectl never waits for the lock; one at a time, because two lose each other's contexts.
    let edited = file.clone();
    let editor = std::thread::spawn(move || {
        for at in 0..20 {
            let name = format!("own-{at}");
            let args = ["config", "set-context", &name, "--cluster", "mine"];
            while !kubectl(&edited, &args).status.success() {}
        }
    });
    for rig in &rigs {
        rig.wait_running().await;
    }
    editor.join().unwrap();
    let has = |name: &str| contexts(&file).iter().any(|known| known == name);
    for at in 0..20 {
        assert!(has(&format!("own-{at}")), "own-{at}");
    }
    // kubectl reads before it locks, and then removes what was added: the next check adds it.
    for rig in &rigs {
        rig.check().await;
        let name = format!("kind-{}", rig.name);
        eventually(TIMEOUT, &name, || async { has(&name) }).await;
    }
    for rig in &rigs {
        rig.desire("absent").await;
    }
    for rig in &rigs {
        rig.wait_removed().await;
    }
    assert_eq!(contexts(&file).len(), 21);
    assert!(!file.with_extension("lock").exists());
    drop(daemons);
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_stale_lock_of_kubectl_is_a_warning_and_heals() {
    let rig = NativeRig::new("stale").await;
    let file = rig.host.path().join("user-config");
    let lock = rig.host.path().join("user-config.lock");
    fs::write(&lock, "").unwrap();
    let (_daemon, _) = with_file(&rig, OF_USER).await;
    rig.declare("kind").await;
    rig.wait_shown("step context failed:").await;
    let message = rig.wait_step("context", "failed").await;
    assert!(
        message.contains("user-config.lock exists since"),
        "{message}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), OF_USER);
    fs::remove_file(&lock).unwrap();
    rig.check().await;
    rig.wait_step("context", "done").await;
    assert!(contexts(&file).contains(&"kind-stale".to_owned()));
    // A delete does not wait for a person either.
    fs::write(&lock, "").unwrap();
    rig.desire("absent").await;
    rig.wait_removed().await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_command_prints_and_merges_a_kubeconfig() {
    let rig = NativeRig::new("printed").await;
    let _daemon = rig
        .builder()
        .set("KINDLER_KUBECONFIG_MERGE", "false")
        .start()
        .await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    rig.wait_step("context", "done").await;
    let user = rig.host.path().join(".kube/config");
    assert!(!user.exists());
    let run = |args: &[&str]| kindler_output(&rig.database.url(), &rig.host, args);
    let (printed, _) = run(&["kubeconfig", "printed"]);
    assert_eq!(
        printed,
        fs::read_to_string(rig.folder().join("kubeconfig")).unwrap()
    );
    let (merged, _) = run(&["kubeconfig", "printed", "--merge"]);
    assert!(merged.contains("context k3d-printed is in "), "{merged}");
    assert_eq!(contexts(&user), ["k3d-printed"]);
    rig.desire("absent").await;
    rig.wait_removed().await;
    // The daemon may not change that file.
    assert_eq!(contexts(&user), ["k3d-printed"]);
}
