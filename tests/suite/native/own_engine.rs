//! Tests that need an engine of their own: without any network, restarted, with a full disk, or with
//! TLS. It and its daemons are in a network namespace, because engines share bridges and rules of the
//! firewall.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::rig::{NativeRig, engine};
use crate::kit::{
    Certificates, Daemon, DaemonBuilder, OtherHost, Sql, TIMEOUT, claim_port, eventually,
};

/// How long an engine may take to start, and to end with its containers.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// The end of a log, for the output of a test that fails.
struct LastLines(PathBuf);

impl Drop for LastLines {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.0).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(20).collect();
            println!("the engine's log, last line first: {lines:#?}");
        }
    }
}

/// An engine with its own data, socket and networks. It ends with this value.
struct OwnEngine {
    network: OtherHost,
    folder: TempDir,
    data: PathBuf,
    options: Vec<String>,
    running: Option<Child>,
}

impl OwnEngine {
    async fn start(options: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        Self::start_in(folder, data, options).await
    }

    async fn start_in(folder: TempDir, data: PathBuf, options: &[String]) -> Self {
        let mut engine = Self {
            network: OtherHost::create().expect("root, and the program `ip`"),
            folder,
            data,
            options: options.to_vec(),
            running: None,
        };
        engine.run().await;
        engine.load_images();
        engine
    }

    fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    async fn run(&mut self) {
        let at = |name: &str| self.folder.path().join(name);
        // A process that was killed left its own.
        let _ = fs::remove_file(at("pid"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(at("log"))
            .unwrap();
        let errors = log.try_clone().unwrap();
        let sbin = format!(
            "{}:/usr/local/sbin:/usr/sbin:/sbin",
            std::env::var("PATH").unwrap()
        );
        let started = self
            .network
            .command()
            .arg("dockerd")
            .env("PATH", sbin)
            .args([Path::new("--data-root"), &self.data])
            .args([Path::new("--exec-root"), &at("run")])
            .args([Path::new("--pidfile"), &at("pid")])
            .args(["--host", &self.host()])
            .args(&self.options)
            .stdout(log)
            .stderr(errors)
            .spawn();
        self.running = Some(started.unwrap());
        let last = LastLines(at("log"));
        eventually(STARTS_WITHIN, "an engine that answers", || async {
            !self.docker(&["info", "--format", "{{.ID}}"]).is_empty()
        })
        .await;
        drop(last);
    }

    /// The images of the engine that all tests share.
    fn load_images(&self) {
        let copy = "docker --host \"$1\" save kindler-stand-in:1 kindler-preload:1 | docker --host \"$2\" load";
        let copied = Command::new("sh")
            .args(["-c", copy, "sh", &engine(), &self.host()])
            .output()
            .unwrap();
        assert!(copied.status.success(), "{copied:?}");
    }

    /// The output of the `docker` command; what fails prints nothing.
    fn docker(&self, args: &[&str]) -> String {
        let output = Command::new("docker")
            .args(["--host", &self.host()])
            .args(args)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Ends the engine, which stops its containers.
    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let pid = i32::try_from(running.id()).ok().and_then(Pid::from_raw);
            let _ = kill_process(pid.expect("a process"), Signal::TERM);
            let _ = running.wait();
        }
    }

    /// A daemon in the network of this engine.
    fn daemon(&self, rig: &NativeRig) -> DaemonBuilder {
        rig.builder()
            .set("DOCKER_HOST", self.host())
            .in_network(&self.network)
    }

    fn is_running(&self, container: &str) -> bool {
        self.docker(&["inspect", "--format", "{{.State.Running}}", container]) == "true"
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        let all = "docker ps -aq | xargs -r docker rm -f; docker network prune -f";
        let _ = Command::new("sh")
            .args(["-c", all])
            .env("DOCKER_HOST", self.host())
            .output();
        self.stop();
        let mounts = "grep -o \" $0/[^ ]*\" /proc/self/mounts | sort -r | xargs -r -n 1 umount -l";
        let _ = Command::new("sh")
            .args(["-c", mounts])
            .arg(self.folder.path())
            .output();
    }
}

/// What happened to the clusters, for the output of a test that fails.
const HISTORY: &str = "SELECT string_agg(concat_ws(' ', cluster_name, kind, to_state, reason, message), E'\\n' ORDER BY id) FROM cluster_events";

const RUNNING: &str = "SELECT count(*) FROM clusters WHERE actual_state = 'running'";
/// Attempts that failed at any time.
const ATTEMPTS: &str =
    "SELECT count(*) FROM cluster_events WHERE kind = 'attempt' OR to_state = 'failed'";

/// Creates eight clusters of both providers at once on an engine without networks.
async fn creates_at_once(daemons: u16) -> (OwnEngine, Vec<(NativeRig, Daemon)>) {
    let engine = OwnEngine::start(&[]).await;
    let each = 8 / daemons;
    let mut rigs = Vec::new();
    for at in 0..daemons {
        let rig = NativeRig::new("first").await;
        let daemon = engine.daemon(&rig).set("KINDLER_CONCURRENCY", "8").spawn();
        let insert = format!(
            "INSERT INTO clusters (name, provider, http_port, https_port)
             SELECT 'first-{at}-' || n, CASE WHEN n % 2 = 0 THEN 'k3d' ELSE 'kind' END, p, p + 1
             FROM generate_series(1, {each}) n, LATERAL (SELECT {} + 2 * n) AS free (p)",
            29_000 + 100 * at
        );
        rig.database.run(&insert).await;
        rigs.push((rig, daemon));
    }
    for (rig, _) in &rigs {
        eventually(TIMEOUT * 3, "all run", || async {
            rig.database.number(RUNNING).await == i64::from(each)
        })
        .await;
    }
    let networks = engine.docker(&["network", "ls", "--format", "{{.Name}}"]);
    let mut networks: Vec<&str> = networks.lines().collect();
    networks.retain(|name| !["host", "none", "bridge"].contains(name));
    networks.sort_unstable();
    assert_eq!(networks, ["k3d-shared", "kind"]);
    (engine, rigs)
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn parallel_first_creates_make_one_network_of_a_name() {
    let (_engine, rigs) = creates_at_once(1).await;
    let database = &rigs[0].0.database;
    let history = database.text(HISTORY).await;
    assert_eq!(database.number(ATTEMPTS).await, 0, "{history}");
}

/// Daemons that share no state folder see each other's network for a moment, and try again.
#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn daemons_of_two_databases_end_with_one_network_of_a_name() {
    creates_at_once(2).await;
}

/// While it is down, nothing is known of its clusters; afterwards they are started, not made again.
#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn clusters_survive_a_restart_of_the_engine() {
    let mut engine = OwnEngine::start(&[]).await;
    let rig = NativeRig::new("again").await;
    let _daemon = engine.daemon(&rig).spawn();
    rig.declare("k3d").await;
    rig.wait_running().await;
    let (server, balancer) = (rig.server(), "k3d-again-serverlb");
    let id = |engine: &OwnEngine| engine.docker(&["inspect", "--format", "{{.Id}}", &rig.server()]);
    let made = id(&engine);
    engine.stop();
    rig.wait_shown("running | ObservationFailed | the health check could not run")
        .await;
    engine.run().await;
    eventually(TIMEOUT, "the cluster runs again", || async {
        let is_up = engine.is_running(&server) && engine.is_running(balancer);
        let shown = rig.shown().await;
        is_up && shown.starts_with("running | ") && !shown.contains("ObservationFailed")
    })
    .await;
    assert_eq!(id(&engine), made);
    let creates =
        "SELECT count(*) FROM cluster_events WHERE kind = 'transition' AND to_state = 'creating'";
    let created = rig.database.number(creates).await;
    assert_eq!(created, 1, "{}", rig.database.text(HISTORY).await);
    assert_eq!(rig.database.number(ATTEMPTS).await, 0);
    let format = r#"{{with index .NetworkSettings.Networks "k3d-shared"}}{{.IPAddress}}{{end}}"#;
    let address = engine.docker(&["inspect", "--format", format, &server]);
    rig.database
        .wait_text("SELECT server_ip FROM clusters", &address)
        .await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_cluster_waits_for_space_on_the_disk_without_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let mount = |options: &str| {
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&data)
            .status();
        assert!(done.unwrap().success(), "mount -o {options}");
    };
    mount("size=1200m");
    let engine = OwnEngine::start_in(folder, data.clone(), &[]).await;
    let ballast = data.join("ballast");
    let fill = File::create(&ballast).unwrap();
    rustix::fs::fallocate(&fill, rustix::fs::FallocateFlags::empty(), 0, 300 << 20).unwrap();
    let rig = NativeRig::new("nospace").await;
    let _daemon = engine.daemon(&rig).spawn();
    rig.declare("k3d").await;
    rig.wait_shown("HostUnusable | waiting for this host: the disk of the container engine has")
        .await;
    assert_eq!(rig.database.number(ATTEMPTS).await, 0);
    assert_eq!(engine.docker(&["ps", "-aq"]), "");
    drop(fill);
    fs::remove_file(&ballast).unwrap();
    rig.check().await;
    rig.wait_running().await;
    assert_eq!(rig.database.number(ATTEMPTS).await, 0);
}

/// The variables are those of the `docker` command, which the tools use too.
#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn an_engine_over_tls_is_used_as_docker_does() {
    let certificates = Certificates::new();
    certificates.authority("ca");
    certificates.authority("other");
    certificates.signed_for("server", "engine", "localhost", "ca");
    certificates.signed_for("client", "daemon", "localhost", "ca");
    let client = |name: &str, authority: &str| {
        let folder = certificates.path(name);
        fs::create_dir(&folder).unwrap();
        for (from, to) in [
            (format!("{authority}.crt"), "ca.pem"),
            ("client.crt".to_owned(), "cert.pem"),
            ("client.key".to_owned(), "key.pem"),
        ] {
            fs::copy(certificates.path(&from), folder.join(to)).unwrap();
        }
        folder
    };
    let (right, wrong) = (client("right", "ca"), client("wrong", "other"));
    let port = claim_port();
    let path = |file: &str| certificates.path(file).display().to_string();
    let engine = OwnEngine::start(&[
        "--tlsverify".to_owned(),
        format!("--tlscacert={}", path("ca.crt")),
        format!("--tlscert={}", path("server.crt")),
        format!("--tlskey={}", path("server.key")),
        format!("--host=tcp://127.0.0.1:{}", port.number),
    ])
    .await;
    let rig = NativeRig::new("over-tls").await;
    let builder = |folder: &Path| {
        engine
            .daemon(&rig)
            .set("DOCKER_HOST", format!("tcp://localhost:{}", port.number))
            .set("DOCKER_TLS_VERIFY", "1")
            .set("DOCKER_CERT_PATH", folder)
    };
    let daemon = builder(&wrong).spawn();
    rig.declare("k3d").await;
    rig.wait_shown("HostUnusable | waiting for this host: the container engine cannot be reached")
        .await;
    let shown = rig.shown().await;
    assert!(shown.contains("UnknownIssuer"), "{shown}");
    assert_eq!(rig.database.number(ATTEMPTS).await, 0);
    daemon.stop().await;
    let _daemon = builder(&right).spawn();
    rig.check().await;
    rig.wait_running().await;
    assert!(engine.is_running(&rig.server()));
    rig.desire("absent").await;
    rig.wait_removed().await;
    assert_eq!(engine.docker(&["ps", "-aq"]), "");
}
