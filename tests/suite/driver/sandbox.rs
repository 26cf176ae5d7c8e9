//! The sandbox driver and the processes of its nodes.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use kindler::clusters::Cluster;
use kindler::clusters::observation::{Observation, PresentState};
use kindler::clusters::plan::Action;
use kindler::drivers::sandbox::{SandboxDriver, SandboxSettings};
use kindler::drivers::{Deadlines, Driver};
use rustix::process::Signal;
use tokio::time::timeout;

use super::rig::{DRIVER_TIMEOUT, DriverRig, act, cluster, free_port, transient};
use super::sandbox_rig::SandboxRig;
use crate::command::rig::{signal, zombies};
use crate::kit::eventually;

fn get(cluster: &Cluster, path: &str) -> String {
    let port = cluster.spec.http_port.get();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

async fn wait_ended(pid: i32) {
    eventually(DRIVER_TIMEOUT, "the end of the process", async || {
        !is_running(pid)
    })
    .await;
}

#[track_caller]
fn unhealthy(observed: Observation) -> String {
    match observed {
        Observation::Present(PresentState::Unhealthy(why)) => why,
        other => panic!("not unhealthy: {other}"),
    }
}

/// A rig with one running cluster.
pub(super) async fn running() -> (SandboxRig, Box<dyn Driver>, Cluster) {
    let rig = SandboxRig::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    act(&*driver, Action::Create, &dev).await.unwrap();
    (rig, driver, dev)
}

#[tokio::test]
async fn a_node_answers_readyz_with_its_name_and_404_elsewhere() {
    let (_rig, _driver, dev) = running().await;
    let ready = get(&dev, "/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 200 OK\r\n") && ready.ends_with("\r\n\r\nok dev\n"),
        "{ready}"
    );
    assert!(get(&dev, "/").starts_with("HTTP/1.1 404 "));
    assert!(get(&dev, "/readyz/x").starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn a_node_answers_despite_many_open_connections() {
    let (_rig, driver, dev) = running().await;
    let port = dev.spec.http_port.get();
    let _silent: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap())
        .collect();
    // The first of them are kept open for two seconds at most, the rest is closed at
    // once.
    eventually(DRIVER_TIMEOUT, "an answer from the node", async || {
        driver.observe(&dev).await.is_healthy()
    })
    .await;
}

#[tokio::test]
async fn a_node_has_its_own_session_and_no_variables_or_files() {
    let (rig, _driver, dev) = running().await;
    let pid = rig.record(&dev).process.pid;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(fields[3], pid.to_string(), "session: {stat}");
    assert_eq!(fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
    // The tests may have inherited open files; only the added ones count.
    let bare = Command::new("sh")
        .args(["-c", "readlink /proc/$$/fd/*"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let bare = String::from_utf8(bare.stdout).unwrap();
    let mut added: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
        .map(|target| target.display().to_string())
        .filter(|target| !bare.lines().any(|inherited| inherited == target))
        .collect();
    added.sort();
    let folder = rig.folder(&dev).display().to_string();
    let log = format!("{folder}/node.log");
    // No pipe back to the daemon.
    assert_eq!(added[..3], [folder, log.clone(), log]);
    assert!(
        added.len() == 4 && added[3].starts_with("socket:"),
        "{added:?}"
    );
}

#[tokio::test]
async fn a_cluster_outlives_its_driver() {
    let (rig, driver, dev) = running().await;
    let before = rig.record(&dev);
    drop(driver);
    let driver = rig.driver();
    assert_eq!(driver.observe(&dev).await, Observation::HEALTHY);
    act(&*driver, Action::Create, &dev).await.unwrap();
    assert_eq!(rig.record(&dev), before, "it was created again");
}

#[tokio::test]
async fn an_update_without_a_new_port_keeps_the_node() {
    let (rig, driver, mut dev) = running().await;
    let before = rig.record(&dev);
    dev.generation += 1;
    act(&*driver, Action::Update, &dev).await.unwrap();
    let after = rig.record(&dev);
    assert_eq!(after.process, before.process);
    assert_eq!((before.generation, after.generation), (3, 4));
}

#[tokio::test]
async fn a_sandbox_cluster_has_no_kubeconfig_with_a_reason() {
    let (_rig, driver, dev) = running().await;
    let why = driver.kubeconfig(&dev).await.unwrap_err().to_string();
    assert!(why.contains("no Kubernetes"), "{why}");
}

/// A later row of the same name adopts the running node, as any row does.
#[tokio::test]
async fn a_node_is_recorded_for_the_row_that_adopted_it() {
    let (rig, driver, mut dev) = running().await;
    let before = rig.record(&dev);
    assert_eq!(before.uid, Some(dev.uid));
    dev.uid = uuid::Uuid::from_u128(2);
    act(&*driver, Action::Create, &dev).await.unwrap();
    let after = rig.record(&dev);
    assert_eq!(
        (&after.process, after.uid),
        (&before.process, Some(dev.uid))
    );
}

#[tokio::test]
async fn a_record_without_a_uid_is_read_and_completed() {
    let (rig, driver, dev) = running().await;
    let before = rig.record(&dev);
    let mut old = serde_json::to_value(&before).unwrap();
    old.as_object_mut().unwrap().remove("uid").unwrap();
    std::fs::write(rig.folder(&dev).join("node.json"), old.to_string()).unwrap();
    assert_eq!(driver.observe(&dev).await, Observation::HEALTHY);
    assert_eq!(rig.record(&dev).uid, None);
    act(&*driver, Action::Create, &dev).await.unwrap();
    assert_eq!(rig.record(&dev), before);
}

#[tokio::test]
async fn a_repaired_cluster_keeps_its_creation_time() {
    let (rig, driver, dev) = running().await;
    let before = rig.record(&dev);
    rig.kill(&dev);
    wait_ended(before.process.pid).await;
    act(&*driver, Action::Create, &dev).await.unwrap();
    let after = rig.record(&dev);
    assert_ne!(after.process, before.process);
    assert_eq!(after.created_at, before.created_at);
}

#[tokio::test]
async fn a_dead_process_is_observed_and_leaves_no_zombie() {
    let (rig, driver, dev) = running().await;
    let pid = rig.record(&dev).process.pid;
    signal(pid, Signal::KILL);
    let dead = Observation::unhealthy(format!("its process {pid} has ended"));
    eventually(
        DRIVER_TIMEOUT,
        "the observation that the process has ended",
        async || driver.observe(&dev).await == dead,
    )
    .await;
    eventually(DRIVER_TIMEOUT, "the process reaped", async || {
        !zombies().contains(&pid)
    })
    .await;
}

#[tokio::test]
async fn a_suspended_node_is_unhealthy_and_replaced() {
    let (rig, _driver, dev) = running().await;
    let pid = rig.record(&dev).process.pid;
    signal(pid, Signal::STOP);
    let quick_probe = SandboxDriver::new(SandboxSettings {
        deadlines: Deadlines {
            probe: Duration::from_millis(500),
            ..rig.settings().deadlines
        },
        ..rig.settings()
    });
    let why = unhealthy(quick_probe.observe(&dev).await);
    assert!(
        why.ends_with("does not answer within KINDLER_PROBE_DEADLINE=500ms"),
        "{why}"
    );
    act(&quick_probe, Action::Create, &dev).await.unwrap();
    assert!(!is_running(pid));
    assert_eq!(rig.driver().observe(&dev).await, Observation::HEALTHY);
    // A suspended node does not prevent its deletion.
    signal(rig.record(&dev).process.pid, Signal::STOP);
    act(&quick_probe, Action::Delete, &dev).await.unwrap();
    assert_eq!(quick_probe.observe(&dev).await, Observation::Absent);
}

#[tokio::test]
async fn a_port_in_use_is_a_failure_that_names_the_process() {
    let rig = SandboxRig::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    let port = dev.spec.http_port.get();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let (summary, detail) = transient(act(&*driver, Action::Create, &dev).await);
    let me = std::process::id();
    let start = format!("step port: http_port {port} is already in use by process {me} (");
    assert!(summary.starts_with(&start), "{summary}");
    assert_eq!(detail, format!("log: {}", rig.logs().path("dev").display()));
    assert!(!driver.observe(&dev).await.is_healthy());
    drop(listener);
    act(&*driver, Action::Create, &dev).await.unwrap();

    let mut second = cluster("second");
    second.spec.http_port = dev.spec.http_port;
    let (summary, _) = transient(act(&*driver, Action::Create, &second).await);
    let pid = rig.record(&dev).process.pid;
    let expected = format!(
        "step port: http_port {port} is already in use by sandbox cluster dev (process {pid})"
    );
    assert_eq!(summary, expected);
    // The node that has the port answers there, but with another name.
    assert!(!driver.observe(&second).await.is_healthy());
}

#[tokio::test]
async fn moving_to_a_port_in_use_changes_nothing() {
    let (rig, driver, mut dev) = running().await;
    let before = rig.record(&dev);
    let old_port = dev.spec.http_port;
    let other = free_port();
    let _taker = TcpListener::bind((Ipv4Addr::LOCALHOST, other.get())).unwrap();
    dev.spec.http_port = other;
    let (summary, _) = transient(act(&*driver, Action::Update, &dev).await);
    assert!(summary.contains("already in use"), "{summary}");
    let why = unhealthy(driver.observe(&dev).await);
    assert!(
        why.contains(&format!("listens on port {old_port}, but")),
        "{why}"
    );
    dev.spec.http_port = old_port;
    assert_eq!(driver.observe(&dev).await, Observation::HEALTHY);
    assert_eq!(rig.record(&dev), before);
}

#[tokio::test]
async fn a_foreign_program_on_the_port_is_not_the_node() {
    let (rig, driver, dev) = running().await;
    let mut record = rig.record(&dev);
    let other = cluster("other");
    act(&*driver, Action::Create, &other).await.unwrap();
    record.port = other.spec.http_port.get();
    rig.write_record(&dev, &record);
    let mut moved = dev.clone();
    moved.spec.http_port = other.spec.http_port;
    let why = unhealthy(driver.observe(&moved).await);
    assert!(why.ends_with("is answered by another program"), "{why}");
}

#[tokio::test]
async fn a_foreign_process_with_the_nodes_pid_is_not_killed() {
    let (rig, driver, dev) = running().await;
    rig.kill(&dev);
    let mut foreign = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut record = rig.record(&dev);
    record.process.pid = foreign.id().try_into().unwrap();
    // Pids are not reused within one tick of 10 ms, but this test may be as fast.
    record.process.start_ticks -= 1;
    rig.write_record(&dev, &record);
    unhealthy(driver.observe(&dev).await);
    for action in [Action::Stop, Action::Create, Action::Delete] {
        // As if the pid had been reused after each action.
        if rig.folder(&dev).exists() {
            rig.write_record(&dev, &record);
        }
        let _either = act(&*driver, action, &dev).await;
        assert!(
            foreign.try_wait().unwrap().is_none(),
            "killed by {action:?}"
        );
    }
    foreign.kill().unwrap();
    foreign.wait().unwrap();
}

#[tokio::test]
async fn a_half_made_folder_is_recreated() {
    let rig = SandboxRig::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    for content in [None, Some("{\"pid\":"), Some("")] {
        fs::create_dir_all(rig.folder(&dev)).unwrap();
        if let Some(text) = content {
            fs::write(rig.folder(&dev).join("node.json"), text).unwrap();
        }
        unhealthy(driver.observe(&dev).await);
        act(&*driver, Action::Create, &dev).await.unwrap();
        assert_eq!(driver.observe(&dev).await, Observation::HEALTHY);
        act(&*driver, Action::Delete, &dev).await.unwrap();
        assert_eq!(driver.observe(&dev).await, Observation::Absent);
    }
}

#[tokio::test]
async fn a_node_without_a_record_is_not_left_running() {
    for action in [Action::Create, Action::Delete] {
        let (rig, driver, dev) = running().await;
        let pid = rig.record(&dev).process.pid;
        fs::remove_file(rig.folder(&dev).join("node.json")).unwrap();
        unhealthy(driver.observe(&dev).await);
        act(&*driver, action, &dev).await.unwrap();
        // It has given up folder and port, and may need a moment more to end.
        wait_ended(pid).await;
        let expected = match action {
            Action::Create => Observation::HEALTHY,
            _ => Observation::Absent,
        };
        assert_eq!(driver.observe(&dev).await, expected);
    }
}

#[tokio::test]
async fn a_node_ends_when_its_folder_is_removed_or_replaced() {
    for replaced in [false, true] {
        let (rig, _driver, dev) = running().await;
        let pid = rig.record(&dev).process.pid;
        fs::remove_dir_all(rig.folder(&dev)).unwrap();
        if replaced {
            fs::create_dir(rig.folder(&dev)).unwrap();
        }
        wait_ended(pid).await;
    }
}

#[tokio::test]
async fn a_second_node_in_a_folder_ends_at_once() {
    let (rig, driver, dev) = running().await;
    let before = rig.record(&dev);
    let second = tokio::process::Command::new(env!("CARGO_BIN_EXE_kindler"))
        .args(["sandbox-node", "--name", "dev", "--port"])
        .arg(free_port().to_string())
        .arg("--dir")
        .arg(rig.folder(&dev))
        .kill_on_drop(true)
        .output();
    let second = timeout(DRIVER_TIMEOUT, second).await;
    let second = second.expect("a second node must end").unwrap();
    let expected_text = String::from_utf8(second.stdout).unwrap();
    assert!(
        expected_text.starts_with("another node runs in "),
        "{expected_text}"
    );
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(rig.record(&dev), before);
    assert_eq!(driver.observe(&dev).await, Observation::HEALTHY);
}

#[tokio::test]
async fn an_unreadable_folder_is_an_unknown_observation() {
    let rig = SandboxRig::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    fs::create_dir_all(rig.folder(&dev).join("node.json")).unwrap();
    let file = cluster("file");
    fs::write(rig.folder(&file), "").unwrap();
    for row in [&dev, &file] {
        let observed = driver.observe(row).await;
        assert!(matches!(observed, Observation::Unknown(_)), "{observed}");
    }
}

#[tokio::test]
async fn a_stopped_cluster_has_no_process_and_is_recorded() {
    let (rig, driver, dev) = running().await;
    let pid = rig.record(&dev).process.pid;
    act(&*driver, Action::Stop, &dev).await.unwrap();
    assert!(!is_running(pid));
    assert_eq!(driver.observe(&dev).await, Observation::STOPPED);
    // A later daemon observes the same.
    assert_eq!(rig.driver().observe(&dev).await, Observation::STOPPED);
    act(&*driver, Action::Create, &dev).await.unwrap();
    assert_eq!(driver.observe(&dev).await, Observation::HEALTHY);
    // A node that dies later is not a stopped one.
    rig.kill(&dev);
    wait_ended(rig.record(&dev).process.pid).await;
    unhealthy(driver.observe(&dev).await);
}

#[tokio::test]
async fn starting_an_absent_cluster_fails() {
    let rig = SandboxRig::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    let (summary, _) = transient(act(&*driver, Action::Start, &dev).await);
    assert_eq!(summary, "step folder: there is no sandbox cluster to start");
    act(&*driver, Action::Stop, &dev).await.unwrap();
    assert_eq!(driver.observe(&dev).await, Observation::Absent);
}
