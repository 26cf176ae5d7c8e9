//! The embedded Postgres server with real folders, processes and crashes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kindler::postgres::{PostgresError, PostgresServer, PostgresStatus, serving};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::kit::{KINDLER, eventually, run_folder};

const SOON: Duration = Duration::from_secs(30);

/// A state folder that the account that runs Postgres for root can enter.
fn state() -> TempDir {
    let folder = tempfile::Builder::new()
        .prefix("state-")
        .tempdir_in(run_folder())
        .unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

async fn start(state_dir: &Path) -> Result<PostgresServer, PostgresError> {
    PostgresServer::start(state_dir, None, false).await
}

async fn client(server: &PostgresServer) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.admin_url(), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

async fn value(server: &PostgresServer, sql: &str) -> String {
    client(server)
        .await
        .query_one(sql, &[])
        .await
        .unwrap()
        .get(0)
}

async fn write_seven(server: &PostgresServer) {
    let sql = "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)";
    client(server).await.batch_execute(sql).await.unwrap();
}

async fn assert_seven(server: &PostgresServer) {
    assert_eq!(value(server, "SELECT n::text FROM kept").await, "7");
}

fn data(state: &TempDir) -> PathBuf {
    state.path().canonicalize().unwrap().join("postgres/data")
}

fn running_pid(server: &PostgresServer) -> Option<i32> {
    match *server.status().borrow() {
        PostgresStatus::Running { pid } => Some(pid),
        _ => None,
    }
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn the_first_start_makes_a_server_with_the_database() {
    let state = state();
    let server = start(state.path()).await.unwrap();
    let settings = "SELECT concat_ws('|', current_database(), current_user, \
                    current_setting('listen_addresses'), current_setting('TimeZone'), \
                    current_setting('server_encoding'))";
    assert_eq!(value(&server, settings).await, "kindler|postgres||UTC|UTF8");

    let socket_dir = fs::metadata(server.socket_dir()).unwrap();
    assert_eq!(socket_dir.mode() & 0o777, 0o700);
    let process = fs::metadata(format!("/proc/{}", running_pid(&server).unwrap())).unwrap();
    assert_eq!(process.uid(), socket_dir.uid());
    assert_ne!(process.uid(), 0);

    assert_eq!(server.stop().await, PostgresStatus::Stopped);
    assert_eq!(server.stop().await, PostgresStatus::Stopped);
    assert!(serving(&data(&state)).is_empty());
}

#[tokio::test]
async fn data_survives_a_restart() {
    let state = state();
    let server = start(state.path()).await.unwrap();
    write_seven(&server).await;
    server.stop().await;

    let began = Instant::now();
    let server = start(state.path()).await.unwrap();
    println!("a start on existing data took {:?}", began.elapsed());
    assert_seven(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_dropped_server_stops() {
    let state = state();
    let server = start(state.path()).await.unwrap();
    drop(server);
    eventually(SOON, "the end of a dropped server", || async {
        serving(&data(&state)).is_empty()
    })
    .await;
    // The lock is released last.
    let again = eventually(SOON, "a start after a drop", || async {
        start(state.path()).await.ok()
    });
    again.await.stop().await;
}

#[tokio::test]
async fn a_killed_server_is_started_again_and_reports_it() {
    let state = state();
    let server = start(state.path()).await.unwrap();
    write_seven(&server).await;
    let mut status = server.status();
    let first = running_pid(&server).unwrap();
    kill(first);

    let restarting = status.wait_for(|status| matches!(status, PostgresStatus::Restarting { .. }));
    match &*tokio::time::timeout(SOON, restarting)
        .await
        .unwrap()
        .unwrap()
    {
        PostgresStatus::Restarting { attempt: 1, reason } => {
            assert!(reason.contains(&format!("PID {first}")), "{reason}")
        }
        other => panic!("{other:?}"),
    }
    let second = eventually(SOON, "a new server", || async { running_pid(&server) }).await;
    assert_ne!(first, second);
    assert_seven(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_restart_can_be_stopped() {
    let state = state();
    let server = start(state.path()).await.unwrap();
    let control = data(&state).join("global/pg_control");
    fs::rename(&control, control.with_extension("away")).unwrap();
    kill(running_pid(&server).unwrap());
    let mut status = server.status();
    let second = status
        .wait_for(|s| matches!(s, PostgresStatus::Restarting { attempt, .. } if *attempt > 1));
    match &*tokio::time::timeout(SOON, second).await.unwrap().unwrap() {
        PostgresStatus::Restarting { reason, .. } => {
            assert!(reason.contains("pg_control"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
    let stopped = tokio::time::timeout(Duration::from_secs(5), server.stop()).await;
    assert_eq!(stopped, Ok(PostgresStatus::Stopped));
}

/// The next start recovers from an archive that does not answer: the server runs, and accepts
/// nobody.
async fn let_the_next_start_hang(server: &PostgresServer, state: &TempDir) {
    let settings = "ALTER SYSTEM SET restore_command = 'sleep 60'";
    client(server).await.batch_execute(settings).await.unwrap();
    fs::write(data(state).join("recovery.signal"), "").unwrap();
}

#[tokio::test]
async fn ctrl_c_ends_a_start_that_hangs() {
    let state = state();
    let server = start(state.path()).await.unwrap();
    let_the_next_start_hang(&server, &state).await;
    server.stop().await;
    let mut dev = tokio::process::Command::new(KINDLER)
        .arg("dev")
        .env("KINDLER_STATE_DIR", state.path())
        .env("KINDLER_LISTEN", "127.0.0.1:0")
        .env_remove("KINDLER_DATABASE_URL")
        .env_remove("DATABASE_URL")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually(SOON, "a start that hangs", || async {
        data(&state).join("postmaster.pid").exists() && !serving(&data(&state)).is_empty()
    })
    .await;
    let pid = dev.id().unwrap().cast_signed();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), dev.wait()).await;
    let _ = dev.kill().await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(0));
    eventually(SOON, "the end of the server", || async {
        serving(&data(&state)).is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_restart_that_hangs() {
    let state = state();
    let server = start(state.path()).await.unwrap();
    let_the_next_start_hang(&server, &state).await;
    let first = running_pid(&server).unwrap();
    kill(first);
    eventually(SOON, "a restart that hangs", || async {
        let pid_file = fs::read_to_string(data(&state).join("postmaster.pid")).ok()?;
        let pid = pid_file.lines().next()?.parse::<i32>().ok()?;
        (pid != first && !serving(&data(&state)).is_empty()).then_some(())
    })
    .await;
    let stopped = tokio::time::timeout(Duration::from_secs(25), server.stop()).await;
    assert_eq!(stopped, Ok(PostgresStatus::Stopped));
    assert!(serving(&data(&state)).is_empty());
}

#[tokio::test]
async fn a_long_log_is_renamed_at_the_next_start() {
    let state = state();
    start(state.path()).await.unwrap().stop().await;
    let log = state.path().join("postgres/postgres.log");
    let long = 5 * 1024 * 1024;
    fs::File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(long)
        .unwrap();
    start(state.path()).await.unwrap().stop().await;
    assert!(fs::metadata(&log).unwrap().len() < long);
    let old = fs::metadata(log.with_extension("log.1"));
    assert_eq!(old.unwrap().len(), long);
}

#[tokio::test]
async fn a_failed_start_is_reported_with_the_end_of_the_log() {
    let state = state();
    start(state.path()).await.unwrap().stop().await;
    fs::remove_file(data(&state).join("global/pg_control")).unwrap();
    let began = Instant::now();
    let error = start(state.path()).await.unwrap_err();
    assert!(matches!(error, PostgresError::NotStarted(_)), "{error}");
    assert!(error.to_string().contains("pg_control"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_stale_pid_file_with_a_reused_pid_is_removed() {
    let state = state();
    let server = start(state.path()).await.unwrap();
    write_seven(&server).await;
    let socket_dir = server.socket_dir().to_owned();
    server.stop().await;

    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let stale = format!(
        "{}\n{}\n1700000000\n5432\n",
        other.id(),
        data(&state).display()
    );
    for file in [
        data(&state).join("postmaster.pid"),
        socket_dir.join(".s.PGSQL.5432.lock"),
    ] {
        fs::write(file, &stale).unwrap();
    }
    let server = start(state.path()).await.unwrap();
    assert_seven(&server).await;
    server.stop().await;
    assert!(
        other.try_wait().unwrap().is_none(),
        "the other process was killed"
    );
    other.kill().unwrap();
    other.wait().unwrap();
}

#[tokio::test]
async fn a_second_start_on_the_same_state_folder_is_rejected() {
    let state = state();
    let server = start(state.path()).await.unwrap();
    let refusal = start(state.path()).await.unwrap_err();
    assert!(
        matches!(refusal, PostgresError::AlreadyRunning(_)),
        "{refusal}"
    );
    let pid = format!("PID {}", std::process::id());
    assert!(refusal.to_string().ends_with(&pid), "{refusal}");
    assert!(running_pid(&server).is_some());
    server.stop().await;
}

#[tokio::test]
async fn a_long_state_path_moves_the_socket() {
    let state = state();
    let deep = state
        .path()
        .join("a-rather-long-name-for-a-folder".repeat(4));
    let server = start(&deep).await.unwrap();
    let socket_dir = server.socket_dir().to_owned();
    assert!(!socket_dir.starts_with(&deep));
    assert_eq!(fs::metadata(&socket_dir).unwrap().mode() & 0o777, 0o700);
    write_seven(&server).await;
    server.stop().await;
    assert!(!socket_dir.exists());

    let server = start(&deep).await.unwrap();
    assert_eq!(server.socket_dir(), socket_dir);
    assert_seven(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_state_path_may_hold_any_shell_characters() {
    let state = state();
    let server = start(&state.path().join("it's \"$HOME\" `x`"))
        .await
        .unwrap();
    write_seven(&server).await;
    assert_seven(&server).await;
    assert_eq!(server.stop().await, PostgresStatus::Stopped);
}

#[tokio::test]
async fn a_folder_that_the_account_cannot_enter_is_named() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root runs Postgres as another account.
    }
    let closed = state();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let error = start(&closed.path().join("state")).await.unwrap_err();
    assert!(matches!(error, PostgresError::Unreachable(_)), "{error}");
    let closed = closed.path().canonicalize().unwrap();
    let advice = format!("let that user in: chmod o+x {}", closed.display());
    assert!(error.to_string().ends_with(&advice), "{error}");
}

#[tokio::test]
async fn data_of_root_is_given_to_the_account() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give files away.
    }
    let state = state();
    let server = start(state.path()).await.unwrap();
    write_seven(&server).await;
    server.stop().await;
    let chown = Command::new("chown")
        .args(["-R", "root:root"])
        .arg(data(&state))
        .status();
    assert!(chown.unwrap().success());
    let server = start(state.path()).await.unwrap();
    assert_seven(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn an_unfinished_data_folder_is_made_again() {
    let state = state();
    let unfinished = state.path().join("postgres/data.unfinished");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    let server = start(state.path()).await.unwrap();
    assert!(!unfinished.exists());
    server.stop().await;
}

#[tokio::test]
async fn data_of_another_version_needs_that_version() {
    let state = state();
    fs::create_dir_all(data(&state)).unwrap();
    fs::write(data(&state).join("PG_VERSION"), "12\n").unwrap();
    let error = start(state.path()).await.unwrap_err();
    assert!(matches!(error, PostgresError::WrongVersion(_)), "{error}");
    assert!(error.to_string().contains("postgresql-12"), "{error}");
}

/// Not a test: the Kindler that the next tests kill. Prints the PID of its server.
#[tokio::test]
#[ignore = "other tests start it as a process"]
async fn kindler() {
    let server = start(Path::new(&std::env::var("KINDLER_TEST_STATE").unwrap()))
        .await
        .unwrap();
    write_seven(&server).await;
    println!("pid={}", running_pid(&server).unwrap());
    std::future::pending().await
}

/// Starts a Kindler as a process, kills it, and returns the PID of its server, which still runs.
async fn server_of_a_killed_kindler(state: &TempDir) -> i32 {
    let mut kindler: Child = Command::new(std::env::current_exe().unwrap())
        .args([
            "embedded_postgres::kindler",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("KINDLER_TEST_STATE", state.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(kindler.stdout.take().unwrap());
    let pid = tokio::task::spawn_blocking(move || {
        let mut lines = output.lines().map_while(Result::ok);
        lines.find_map(|line| line.split_once("pid=")?.1.parse().ok())
    });
    let pid = pid.await.unwrap().expect("the PID of the server");
    kindler.kill().unwrap();
    kindler.wait().unwrap();
    pid
}

#[tokio::test]
async fn the_server_of_a_killed_kindler_is_adopted() {
    let state = state();
    let left = server_of_a_killed_kindler(&state).await;
    let server = start(state.path()).await.unwrap();
    assert_eq!(running_pid(&server), Some(left));
    assert_seven(&server).await;
    server.stop().await;
    assert!(serving(&data(&state)).is_empty());
}

#[tokio::test]
async fn a_killed_adopted_server_is_started_again() {
    let state = state();
    let left = server_of_a_killed_kindler(&state).await;
    let server = start(state.path()).await.unwrap();
    kill(left);
    eventually(SOON, "a new server", || async {
        running_pid(&server).is_some_and(|pid| pid != left)
    })
    .await;
    assert_seven(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_its_socket_is_replaced() {
    let state = state();
    let left = server_of_a_killed_kindler(&state).await;
    fs::remove_file(state.path().join("postgres/run/.s.PGSQL.5432")).unwrap();
    let server = start(state.path()).await.unwrap();
    assert_ne!(running_pid(&server), Some(left));
    assert_seven(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_start_after_both_were_killed_succeeds() {
    let state = state();
    let left = server_of_a_killed_kindler(&state).await;
    kill(left);
    let server = start(state.path()).await.unwrap();
    assert_ne!(running_pid(&server), Some(left));
    assert_seven(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_hangs_is_killed() {
    let state = state();
    let server = start(state.path()).await.unwrap();
    for pid in serving(&data(&state)) {
        kill_process(pid, Signal::STOP).unwrap();
    }
    let stopped = tokio::time::timeout(Duration::from_secs(25), server.stop()).await;
    assert_eq!(stopped, Ok(PostgresStatus::Stopped));
    assert!(serving(&data(&state)).is_empty());
}
