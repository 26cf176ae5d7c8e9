//! The parts in containers: the page without rights declares, and the daemon makes the clusters,
//! on the host or in its own container with the engine's socket.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::rig::{NativeRig, docker, engine};
use crate::api::client::Client;
use crate::kit::{ClaimedPort, KINDLER, Proxy, TIMEOUT, claim_port, eventually, get};

/// Builds the images once.
async fn images() {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    BUILT
        .get_or_init(|| async {
            let script = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/engine/kindler_images.sh"
            );
            let built = Command::new("sh")
                .args([script, KINDLER])
                .env("DOCKER_HOST", engine())
                .output()
                .unwrap();
            assert!(built.status.success(), "{built:?}");
        })
        .await;
}

/// A container of Kindler; removed when dropped.
struct Container {
    name: String,
    port: ClaimedPort,
}

impl Container {
    /// Runs an image as the compose file does: no capability, no root, a read-only file system.
    async fn run(image: &str, name: &str, proxy: &Proxy, options: &[&str]) -> Self {
        images().await;
        let port = claim_port();
        let settings = [
            format!("KINDLER_LISTEN=127.0.0.1:{}", port.number),
            format!("KINDLER_DATABASE_URL={}", proxy.url()),
        ];
        let mut arguments = vec![
            "run",
            "--detach",
            "--name",
            name,
            "--network",
            "host",
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges:true",
        ];
        settings
            .iter()
            .for_each(|setting| arguments.extend(["--env", setting]));
        arguments.extend(options);
        arguments.push(image);
        let id = docker(&arguments);
        assert!(!id.is_empty(), "docker {arguments:?}");
        let container = Self {
            name: name.to_owned(),
            port,
        };
        eventually(
            TIMEOUT,
            &format!("{name} ready: {}", logs(name)),
            || async {
                let (status, _) = get(container.port.number, "/readyz").await?;
                (status == 200).then_some(())
            },
        )
        .await;
        container
    }

    fn client(&self) -> Client {
        Client::to(self.port.number)
    }

    fn inspected(&self) -> Value {
        serde_json::from_str(&docker(&["inspect", &self.name])).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, logs(&self.name));
        }
        docker(&["rm", "--force", "--volumes", &self.name]);
    }
}

/// What a container has written.
fn logs(name: &str) -> String {
    let script = "docker logs --tail 40 \"$0\" 2>&1";
    let output = Command::new("sh")
        .args(["-c", script, name])
        .env("DOCKER_HOST", engine())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn declare(client: &Client, rig: &NativeRig) {
    let (name, http, https) = (&rig.name, rig.http(), rig.https());
    let body = json!({"name": name, "provider": "k3d", "http_port": http, "https_port": https});
    client.post("/api/clusters", body).await.is(202);
}

async fn wait_running(client: &Client, name: &str) {
    eventually(TIMEOUT, "a running cluster on the page", || async {
        let shown = client.get(&format!("/api/clusters/{name}")).await;
        (shown.json()["actual_state"] == "running").then_some(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_page_without_rights_declares_and_the_host_creates() {
    let rig = NativeRig::new("split").await;
    let proxy = Proxy::to(&rig.database).await;
    let page = Container::run("kindler-api:test", "kindler-page", &proxy, &[]).await;
    let config = &page.inspected()[0];
    assert_eq!(config["Config"]["User"], "65532:65532");
    assert_eq!(config["HostConfig"]["ReadonlyRootfs"], true);
    assert_eq!(config["HostConfig"]["CapDrop"], json!(["ALL"]));
    assert!(!config["Mounts"].to_string().contains("docker.sock"));
    let client = page.client();
    declare(&client, &rig).await;
    let shown = client.get("/api/clusters/split").await.json();
    assert!(
        shown.to_string().contains("no daemon is running"),
        "{shown}"
    );
    let _daemon = rig.start().await;
    wait_running(&client, "split").await;
    assert_eq!(
        rig.containers(),
        ["k3d-split-server-0 running", "k3d-split-serverlb running"]
    );
    client.delete("/api/clusters/split").await;
    rig.wait_removed().await;
    assert_eq!(rig.containers(), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn the_daemons_own_container_creates_on_the_hosts_engine() {
    let rig = NativeRig::new("inside").await;
    let proxy = Proxy::to(&rig.database).await;
    let socket = engine();
    let socket = socket.trim_start_matches("unix://");
    let mount = format!("{socket}:/var/run/docker.sock");
    let group = fs::metadata(socket).unwrap().gid().to_string();
    let options = [
        "--env",
        "KINDLER_DRIVER=native",
        "--volume",
        &mount,
        "--group-add",
        &group,
    ];
    let daemon = Container::run("kindler-daemon:test", "kindler-daemon", &proxy, &options).await;
    let client = daemon.client();
    declare(&client, &rig).await;
    wait_running(&client, "inside").await;
    assert_eq!(
        rig.containers(),
        ["k3d-inside-server-0 running", "k3d-inside-serverlb running",]
    );
    client.delete("/api/clusters/inside").await;
    rig.wait_removed().await;
}
