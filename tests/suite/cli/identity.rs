//! Commands show the present cluster of a name, not an earlier one.

use super::rig::Fleet;
use crate::kit::{Sql, removal};

/// `demo` declared, stopped, removed and declared again; the UIDs of both rows.
async fn declared_again() -> (Fleet, String, String) {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    fleet.run(&["stop", "demo"]).await.exits(0);
    let first = uid(&fleet).await;
    fleet.database.run(&removal("demo")).await;
    fleet.run(&["create", "demo"]).await.exits(0);
    let second = uid(&fleet).await;
    assert_ne!(first, second);
    (fleet, first, second)
}

async fn uid(fleet: &Fleet) -> String {
    let get = fleet.run(&["get", "demo", "-o", "json"]).await.exits(0);
    get.json()["uid"].as_str().unwrap().to_owned()
}

fn log(uid: &str, line: &str) -> String {
    format!("--- 2026-11-20T23:00:00Z create attempt 1 generation 1 term 1 uid {uid}: /x\n{line}\n")
}

#[tokio::test]
async fn events_are_of_the_present_cluster_without_all() {
    let (fleet, first, second) = declared_again().await;
    let shown = async |args: &[&str]| {
        let args = [&["events", "demo", "-o", "json"], args].concat();
        let events = fleet.run(&args).await.exits(0).json();
        let events = events.as_array().unwrap().clone().into_iter();
        let uid = |event: &serde_json::Value| event["uid"].as_str().unwrap().to_owned();
        let kind = |event: &serde_json::Value| event["kind"].as_str().unwrap().to_owned();
        events
            .map(|event| (kind(&event), uid(&event)))
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&[]).await, [("declared".to_owned(), second.clone())]);
    let all = shown(&["--all"]).await;
    let kinds: Vec<&str> = all.iter().map(|(kind, _)| kind.as_str()).collect();
    let expected = ["declared", "changed", "changed", "removed", "declared"];
    assert_eq!(kinds, expected);
    assert!(all[..4].iter().all(|(_, uid)| *uid == first), "{all:?}");
    assert_eq!(all[4].1, second);
    let text = fleet.run(&["events", "demo"]).await.exits(0).out;
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[tokio::test]
async fn get_shows_the_uid_and_no_log_of_an_earlier_cluster() {
    let (fleet, first, second) = declared_again().await;
    fleet.home.write("state/logs/demo.log", &log(&first, "old"));
    let text = fleet.run(&["get", "demo"]).await.exits(0).out;
    assert!(text.contains(&format!("uid           {second}")), "{text}");
    assert!(!text.contains("demo.log"), "{text}");
    fleet
        .home
        .write("state/logs/demo.log", &log(&second, "new"));
    let text = fleet.run(&["get", "demo"]).await.exits(0).out;
    assert!(text.contains("demo.log"), "{text}");
}

#[tokio::test]
async fn logs_of_an_earlier_cluster_are_not_shown() {
    let (fleet, first, second) = declared_again().await;
    fleet.home.write("state/logs/demo.log", &log(&first, "old"));
    fleet
        .run(&["logs", "demo"])
        .await
        .exits(1)
        .stderr_has("no log of demo at");
    fleet
        .home
        .write("state/logs/demo.log.1", &log(&first, "old"));
    fleet
        .home
        .write("state/logs/demo.log", &log(&second, "new"));
    let result = fleet.run(&["logs", "demo"]).await.exits(0);
    assert_eq!(result.out, log(&second, "new"));
    // Without a row, the last log is shown.
    fleet.database.run(&removal("demo")).await;
    let result = fleet.run(&["logs", "demo"]).await.exits(0);
    assert_eq!(
        (result.out, result.err),
        (log(&second, "new"), String::new())
    );
}

#[tokio::test]
async fn without_the_database_the_last_log_has_a_note() {
    let (fleet, first, _) = declared_again().await;
    fleet.home.write("state/logs/demo.log", &log(&first, "old"));
    let unreachable = "postgresql://nobody@127.0.0.1:1/nothing";
    let home = fleet.home.with("KINDLER_DATABASE_URL", unreachable);
    let result = home.run(&["logs", "demo"]).await.exits(0);
    assert_eq!(result.out, log(&first, "old"));
    result.stderr_has("may be of an earlier cluster named demo");
}

#[tokio::test]
async fn a_later_cluster_does_not_undo_an_awaited_delete() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    let waiting = fleet.run(&["delete", "demo", "--wait", "--timeout", "20s"]);
    let replaced = async {
        let absent = || async { fleet.desired("demo").await == "absent" };
        crate::kit::eventually(super::rig::SOON, "the deletion", absent).await;
        let again = "INSERT INTO clusters (name, provider) VALUES ('demo', 'k3d')";
        let sql = format!("{}; {again}", removal("demo"));
        fleet.database.run(&sql).await;
    };
    let (result, ()) = tokio::join!(waiting, replaced);
    assert!(result.exits(0).out.contains("cluster demo is gone"));
}
