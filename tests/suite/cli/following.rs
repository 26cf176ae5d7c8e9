//! Logs and events, shown and followed.

use std::fs::OpenOptions;
use std::io::Write;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use super::rig::{Fleet, Home, SOON};

fn stdout(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(SOON, lines.next_line()).await;
    line.expect("a line in time").unwrap().expect("a line")
}

#[tokio::test]
async fn logs_show_the_last_lines_without_a_database() {
    let home = Home::new();
    home.write("state/logs/demo.log", "one\ntwo\n\x1b[31mthree\n");
    assert_eq!(
        home.run(&["logs", "demo"]).await.exits(0).out,
        "one\ntwo\nthree\n"
    );
    assert_eq!(
        home.run(&["logs", "demo", "-n", "1"]).await.exits(0).out,
        "three\n"
    );
    home.run(&["logs", "other"])
        .await
        .exits(1)
        .stderr_has("no log of other at")
        .stderr_has("state/logs/other.log");
}

#[tokio::test]
async fn a_log_on_another_host_has_a_hint() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    fleet
        .run(&["logs", "demo"])
        .await
        .exits(1)
        .stderr_has("no daemon is running now");
    fleet.daemon("faraway", 0, true).await;
    fleet
        .run(&["logs", "demo"])
        .await
        .exits(1)
        .stderr_has("which runs on faraway");
}

#[tokio::test]
async fn logs_are_followed() {
    let home = Home::new();
    let path = home.write("state/logs/demo.log", "one\n");
    let mut child = home.start(&["logs", "demo", "-f"]);
    let mut lines = stdout(&mut child);
    assert_eq!(next(&mut lines).await, "one");
    let mut log = OpenOptions::new().append(true).open(path).unwrap();
    log.write_all(b"two\n").unwrap();
    assert_eq!(next(&mut lines).await, "two");
}

#[tokio::test]
async fn followed_events_are_one_object_per_line() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    let mut child = fleet.home.start(&["events", "demo", "-f", "-o", "json"]);
    let mut lines = stdout(&mut child);
    let kind = |line: String| {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        event["kind"].as_str().unwrap().to_owned()
    };
    assert_eq!(kind(next(&mut lines).await), "declared");
    fleet.run(&["pause", "demo"]).await.exits(0);
    assert_eq!(kind(next(&mut lines).await), "paused");
}
