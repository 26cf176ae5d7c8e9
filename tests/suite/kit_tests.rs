//! The kit works as documented: all other tests rely on it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::kit::{Database, PrivateServer, Sql, TIMEOUT, eventually};

#[tokio::test]
async fn each_database_is_new_and_empty() {
    let (one, two) = tokio::join!(Database::create(), Database::create());
    assert_ne!(one.name(), two.name());
    one.run("CREATE TABLE here (n int)").await;
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(one.value::<i64>(tables).await, 1);
    assert_eq!(two.value::<i64>(tables).await, 0);
}

#[tokio::test]
async fn a_role_made_by_a_test_can_connect() {
    let database = Database::create().await;
    database.run("CREATE ROLE kit_reader LOGIN").await;
    let client = database.connect_as("kit_reader").await;
    let user: String = client
        .query_one("SELECT current_user::text", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(user, "kit_reader");
    drop(client);
    database.run("DROP ROLE kit_reader").await;
}

#[tokio::test]
async fn a_private_server_stops_and_starts_with_its_data() {
    let server = PrivateServer::create().await;
    let database = server.database().await;
    database
        .run("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
        .await;
    server.stop_fast().await;
    assert!(database.try_connect().await.is_err());
    server.start().await;
    server.stop_immediate().await;
    server.start().await;
    assert_eq!(database.value::<i32>("SELECT n FROM kept").await, 7);
}

#[tokio::test]
async fn terminated_clients_notice() {
    let server = PrivateServer::create().await;
    let database = server.database().await;
    let client = database.connect().await;
    assert!(server.terminate_all().await >= 1);
    eventually(TIMEOUT, "the client closed", || async {
        client.is_closed()
    })
    .await;
    assert_eq!(database.value::<i32>("SELECT 1").await, 1);
}

#[tokio::test]
async fn a_suspended_server_answers_only_after_it_is_resumed() {
    let server = PrivateServer::create().await;
    let client = server.database().await.connect().await;
    server.suspend();
    let sent = Instant::now();
    let answer = client.query_one("SELECT 1", &[]);
    let silence = tokio::time::timeout(Duration::from_millis(300), answer).await;
    assert!(
        silence.is_err(),
        "a suspended server answered after {:?}",
        sent.elapsed()
    );
    server.resume();
    eventually(TIMEOUT, "an answer after the resume", || async {
        client.query_one("SELECT 1", &[]).await.ok()
    })
    .await;
}

#[tokio::test]
async fn eventually_returns_the_value_it_waited_for() {
    let mut attempts = 0;
    let value = eventually(TIMEOUT, "the third attempt", || {
        attempts += 1;
        std::future::ready((attempts == 3).then_some("here"))
    });
    assert_eq!(value.await, "here");
}

#[tokio::test]
#[should_panic(expected = "attempts): a condition that never holds")]
async fn eventually_names_the_condition_that_timed_out() {
    eventually(
        Duration::from_millis(20),
        "a condition that never holds",
        || async { false },
    )
    .await;
}

/// Not a test: the next test runs and kills it. It prints its socket folder and waits.
#[tokio::test]
#[ignore = "run by another test, to be killed"]
async fn killed_process() {
    let server = PrivateServer::create().await;
    println!("folder={}", server.socket_dir().display());
    std::future::pending().await
}

#[tokio::test]
async fn a_killed_test_process_leaves_no_server_and_no_folder() {
    let mut killed_process = Command::new(std::env::current_exe().unwrap())
        .args([
            "kit_tests::killed_process",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = killed_process.stdout.take().unwrap();
    let socket_dir = tokio::task::spawn_blocking(move || {
        use std::io::{BufRead, BufReader};
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.find_map(|line| Some(line.split_once("folder=")?.1.to_owned()))
    });
    let socket_dir = socket_dir
        .await
        .unwrap()
        .expect("the process prints its folder");
    let server = Path::new(&socket_dir).parent().unwrap();
    let data = server.join("data");
    assert!(!kindler::postgres::serving(&data).is_empty());

    killed_process.kill().unwrap();
    killed_process.wait().unwrap();
    eventually(TIMEOUT, "the end of the server", || async {
        kindler::postgres::serving(&data).is_empty()
    })
    .await;
    let run = server.parent().unwrap();
    eventually(TIMEOUT, "the removal of the folder", || async {
        !run.exists()
    })
    .await;
}
