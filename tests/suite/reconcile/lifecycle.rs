//! Starting, ending, and telling how it is.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{SOON, insert, migrated, run, scene, text, until};
use crate::kit::{Daemon, Database, Host, claim_port, daemon_settings, eventually, kindler};

#[tokio::test]
async fn ending_lets_short_work_finish_and_leaves_no_lease_behind() {
    let scene = scene().await;
    scene.host.control("dev.create", "sleep 0.3");
    scene.run(&insert("dev")).await;
    eventually(SOON, "the create to run", || async {
        !scene.host.live_commands().is_empty()
    })
    .await;
    assert!(scene.daemon.stop().await.success());
    assert_eq!(
        text(&scene.sql, "SELECT actual_state FROM clusters").await,
        "running"
    );
    assert_eq!(
        text(&scene.sql, "SELECT count(*)::text FROM cluster_leases").await,
        "0"
    );
    assert_eq!(
        text(&scene.sql, "SELECT count(*)::text FROM kindler_replicas").await,
        "0"
    );
}

#[tokio::test]
async fn ending_cancels_long_work_within_the_stated_bound() {
    let scene = scene().await;
    scene.host.control("dev.create", "trap '' TERM; sleep 600");
    scene.run(&insert("dev")).await;
    eventually(SOON, "the create to run", || async {
        !scene.host.live_commands().is_empty()
    })
    .await;
    let began = Instant::now();
    assert!(scene.daemon.stop().await.success());
    // A second to finish, two of grace, and a moment.
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(scene.host.live_commands(), Vec::<i32>::new());
    assert_eq!(
        text(
            &scene.sql,
            "SELECT actual_state || failed_attempts FROM clusters"
        )
        .await,
        "creating0"
    );
    assert_eq!(
        text(&scene.sql, "SELECT count(*)::text FROM cluster_leases").await,
        "0"
    );
    scene.host.release("dev.create");
    let _next = Daemon::start(&scene.database, &scene.host).await;
    until(&scene.sql, "dev", "present running").await;
}

#[tokio::test]
async fn a_second_signal_forces_the_end() {
    let database = migrated().await;
    let host = Host::new();
    host.control("dev.create", "sleep 600");
    let mut daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_SHUTDOWN_GRACE", "1h")
        .spawn();
    daemon.ready().await;
    let sql = database.connect().await;
    run(&sql, &insert("dev")).await;
    eventually(SOON, "the create to run", || async {
        !host.live_commands().is_empty()
    })
    .await;
    daemon.signal(Signal::TERM);
    eventually(SOON, "the daemon to say so", || async {
        daemon
            .log()
            .contains("a second signal ends the process at once")
    })
    .await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended(Duration::from_secs(5)).await.code(), Some(130));
    eventually(SOON, "the command to be gone", || async {
        host.live_commands().is_empty()
    })
    .await;
}

#[tokio::test]
async fn an_unmigrated_database_is_waited_for_with_the_reason() {
    let database = Database::create().await;
    let host = Host::new();
    let daemon = Daemon::builder(&database.url(), &host).spawn();
    let told = eventually(SOON, "the reason", || async {
        daemon
            .get("/readyz")
            .await
            .filter(|(_, body)| body.contains("migrate"))
    })
    .await;
    assert_eq!(told.0, 503);
    assert_eq!(daemon.get("/healthz").await.unwrap().0, 200);
    assert_eq!(daemon.metric("kindler_db_up").await, Some(0.0));
    let asked = |address: String| {
        let mut command = kindler(&database.url(), &host);
        let asked = command.arg("ready").env("KINDLER_LISTEN", address);
        let output = asked.output().unwrap();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), told)
    };
    let (code, told) = asked(daemon.address());
    assert!(code == Some(1) && told.contains("migrate"), "{told}");
    let (code, told) = asked("127.0.0.1:1".to_owned());
    let complaint = "error: no daemon answers at 127.0.0.1:1: Connection refused";
    assert!(code == Some(1) && told.contains(complaint), "{told}");
    let migrated = kindler(&database.url(), &host)
        .arg("migrate")
        .output()
        .unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    daemon.ready().await;
    assert_eq!(asked(daemon.address()), (Some(0), "ready\n".to_owned()));
}

#[tokio::test]
async fn systemd_is_told_that_it_is_ready_and_alive() {
    let (database, host) = (migrated().await, Host::new());
    let path = host.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let daemon = Daemon::builder(&database.url(), &host)
        .set("NOTIFY_SOCKET", &path)
        .spawn();
    let mut told = String::new();
    let hear = |told: &mut String| {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).expect("a message for systemd");
        told.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        told.push('\n');
    };
    while !(told.contains("READY=1") && told.contains("WATCHDOG=1")) {
        hear(&mut told);
    }
    daemon.signal(Signal::TERM);
    while !told.contains("STOPPING=1") {
        hear(&mut told);
    }
}

#[tokio::test]
async fn once_makes_one_pass_and_tells_cron_the_truth() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let once = |url: String| {
        let mut command = kindler(&url, &host);
        command.arg("once");
        daemon_settings(&mut command, &host);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    run(&sql, "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 7) n").await;
    let ended = once(database.url()).await.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(
        text(
            &sql,
            "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'"
        )
        .await,
        "7"
    );

    host.control("bad.create", "exit 1");
    run(&sql, &insert("bad")).await;
    run(
        &sql,
        "UPDATE clusters SET desired_state = 'absent' WHERE name = 'c1'",
    )
    .await;
    let ended = once(database.url()).await.unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(host.world("c1"), None);

    let nowhere = format!("postgresql://nobody@/x?host={}", host.path().display())
        .replace("host=/", "host=%2F");
    let ended = once(nowhere).await.unwrap();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
}

#[tokio::test]
async fn a_reader_of_stderr_that_went_away_takes_nothing_with_it() {
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
    run(&sql, &insert("dev")).await;
    until(&sql, "dev", "present running").await;
    let pid = rustix::process::Pid::from_child(&daemon);
    let daemon = std::sync::Mutex::new(daemon);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let status = eventually(SOON, "the daemon to end", || async {
        daemon.lock().unwrap().try_wait().unwrap()
    })
    .await;
    assert!(status.success(), "{status:?}");
}
