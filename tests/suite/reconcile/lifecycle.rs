//! Start, shutdown, `once`, and the messages to systemd.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::rig;
use crate::kit::{
    Daemon, Database, Host, Sql, TIMEOUT, claim_port, daemon_settings, eventually, kindler,
    migrated,
};

#[tokio::test]
async fn shutdown_lets_short_work_finish_and_releases_leases() {
    let rig = rig().await;
    rig.host.control("dev.create", "sleep 0.3");
    rig.sql.declare("dev").await;
    rig.host.wait_commands(1).await;
    assert!(rig.daemon.stop().await.success());
    assert_eq!(
        rig.sql.text("SELECT actual_state FROM clusters").await,
        "running"
    );
    assert_eq!(
        rig.sql
            .text("SELECT count(*)::text FROM cluster_leases")
            .await,
        "0"
    );
    assert_eq!(
        rig.sql
            .text("SELECT count(*)::text FROM kindler_replicas")
            .await,
        "0"
    );
}

#[tokio::test]
async fn shutdown_cancels_long_work_within_its_bound() {
    let rig = rig().await;
    rig.host.control("dev.create", "trap '' TERM; sleep 600");
    rig.sql.declare("dev").await;
    rig.host.wait_commands(1).await;
    let began = Instant::now();
    assert!(rig.daemon.stop().await.success());
    // 1 s to finish, 2 s of grace, and some slack.
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(rig.host.live_commands(), Vec::<i32>::new());
    assert_eq!(
        rig.sql
            .text("SELECT actual_state || failed_attempts FROM clusters")
            .await,
        "creating0"
    );
    assert_eq!(
        rig.sql
            .text("SELECT count(*)::text FROM cluster_leases")
            .await,
        "0"
    );
    rig.host.release("dev.create");
    let _next = Daemon::start(&rig.database, &rig.host).await;
    rig.sql.wait_state("dev", "present running").await;
}

#[tokio::test]
async fn a_second_signal_forces_the_exit() {
    let database = migrated().await;
    let host = Host::new();
    host.control("dev.create", "sleep 600");
    let mut daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_SHUTDOWN_GRACE", "1h")
        .start()
        .await;
    let sql = database.connect().await;
    sql.declare("dev").await;
    host.wait_commands(1).await;
    daemon.signal(Signal::TERM);
    eventually(TIMEOUT, "the log line about a second signal", || async {
        daemon
            .log()
            .contains("a second signal ends the process at once")
    })
    .await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended(Duration::from_secs(5)).await.code(), Some(130));
    host.wait_commands(0).await;
}

#[tokio::test]
async fn an_unmigrated_database_is_awaited_with_a_reason() {
    let database = Database::create().await;
    let host = Host::new();
    let daemon = Daemon::builder(&database.url(), &host).spawn();
    daemon.wait_not_ready("migrate").await;
    assert_eq!(daemon.get("/healthz").await.unwrap().0, 200);
    assert_eq!(daemon.metric("kindler_db_up").await, Some(0.0));
    let ready = |address: String| {
        let mut command = kindler(&database.url(), &host);
        let output = command
            .arg("ready")
            .env("KINDLER_LISTEN", address)
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = ready(daemon.address());
    assert!(code == Some(1) && text.contains("migrate"), "{text}");
    let (code, text) = ready("127.0.0.1:1".to_owned());
    let error = "error: no daemon answers at 127.0.0.1:1: Connection refused";
    assert!(code == Some(1) && text.contains(error), "{text}");
    let migrated = kindler(&database.url(), &host)
        .arg("migrate")
        .output()
        .unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    daemon.ready().await;
    let (code, text) = ready(daemon.address());
    assert!(code == Some(0) && text.starts_with("ready"), "{text}");
}

#[tokio::test]
async fn systemd_is_notified_of_readiness_and_liveness() {
    let (database, host) = (migrated().await, Host::new());
    let path = host.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let daemon = Daemon::builder(&database.url(), &host)
        .set("NOTIFY_SOCKET", &path)
        .spawn();
    let mut text = String::new();
    let receive = |text: &mut String| {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).expect("a message for systemd");
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        text.push('\n');
    };
    while !(text.contains("READY=1") && text.contains("WATCHDOG=1")) {
        receive(&mut text);
    }
    daemon.signal(Signal::TERM);
    while !text.contains("STOPPING=1") {
        receive(&mut text);
    }
}

#[tokio::test]
async fn once_makes_one_pass_and_its_exit_code_is_the_result() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let once = |url: String| {
        let mut command = kindler(&url, &host);
        command.arg("once");
        daemon_settings(&mut command, &host);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    sql.declare_many("c", 7).await;
    let ended = once(database.url()).await.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(
        sql.text("SELECT count(*)::text FROM clusters WHERE actual_state = 'running'")
            .await,
        "7"
    );

    host.control("bad.create", "exit 1");
    sql.declare("bad").await;
    sql.desire("c1", "absent").await;
    let ended = once(database.url()).await.unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(host.cluster("c1"), None);

    let nowhere = format!("postgresql://nobody@/x?host={}", host.path().display())
        .replace("host=/", "host=%2F");
    let ended = once(nowhere).await.unwrap();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
}

#[tokio::test]
async fn a_closed_stderr_does_not_stop_the_daemon() {
    let (database, host) = (migrated().await, Host::new());
    let mut command = kindler(&database.url(), &host);
    let port = claim_port();
    let listen = format!("127.0.0.1:{}", port.number);
    command.arg("serve").env("KINDLER_LISTEN", listen);
    daemon_settings(&mut command, &host);
    let mut daemon = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(daemon.stderr.take());
    let sql = database.connect().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present running").await;
    let pid = rustix::process::Pid::from_child(&daemon);
    let daemon = std::sync::Mutex::new(daemon);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let status = eventually(TIMEOUT, "the end of the daemon", || async {
        daemon.lock().unwrap().try_wait().unwrap()
    })
    .await;
    assert!(status.success(), "{status:?}");
}
