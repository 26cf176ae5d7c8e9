//! What commands show is of the cluster that has the name now.

use super::rig::Fleet;
use crate::kit::removal;

/// `demo`, declared, stopped and removed; and declared again.
async fn declared_again() -> (Fleet, String, String) {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.ends(0);
    fleet.run(&["stop", "demo"]).await.ends(0);
    let first = uid(&fleet).await;
    fleet.database.execute(&removal("demo")).await;
    fleet.run(&["create", "demo"]).await.ends(0);
    let second = uid(&fleet).await;
    assert_ne!(first, second);
    (fleet, first, second)
}

async fn uid(fleet: &Fleet) -> String {
    let get = fleet.run(&["get", "demo", "-o", "json"]).await.ends(0);
    get.json()["uid"].as_str().unwrap().to_owned()
}

fn log(uid: &str, line: &str) -> String {
    format!(
        "--- 2026-11-20T23:00:00Z create attempt 1 generation 1 fence 1 uid {uid}: /x\n{line}\n"
    )
}

#[tokio::test]
async fn events_are_of_the_present_cluster_unless_all_are_asked_for() {
    let (fleet, first, second) = declared_again().await;
    let shown = async |args: &[&str]| {
        let args = [&["events", "demo", "-o", "json"], args].concat();
        let events = fleet.run(&args).await.ends(0).json();
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
    let text = fleet.run(&["events", "demo"]).await.ends(0).out;
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[tokio::test]
async fn get_shows_the_uid_and_no_log_of_an_earlier_cluster() {
    let (fleet, first, second) = declared_again().await;
    fleet.home.write("state/logs/demo.log", &log(&first, "old"));
    let text = fleet.run(&["get", "demo"]).await.ends(0).out;
    assert!(text.contains(&format!("uid           {second}")), "{text}");
    assert!(!text.contains("demo.log"), "{text}");
    fleet
        .home
        .write("state/logs/demo.log", &log(&second, "new"));
    let text = fleet.run(&["get", "demo"]).await.ends(0).out;
    assert!(text.contains("demo.log"), "{text}");
}

#[tokio::test]
async fn logs_of_an_earlier_cluster_are_not_shown() {
    let (fleet, first, second) = declared_again().await;
    fleet.home.write("state/logs/demo.log", &log(&first, "old"));
    fleet
        .run(&["logs", "demo"])
        .await
        .ends(1)
        .complains("no log of demo at");
    fleet
        .home
        .write("state/logs/demo.log.1", &log(&first, "old"));
    fleet
        .home
        .write("state/logs/demo.log", &log(&second, "new"));
    let said = fleet.run(&["logs", "demo"]).await.ends(0);
    assert_eq!(said.out, log(&second, "new"));
    // Of a removed one, the last is shown.
    fleet.database.execute(&removal("demo")).await;
    let said = fleet.run(&["logs", "demo"]).await.ends(0);
    assert_eq!((said.out, said.err), (log(&second, "new"), String::new()));
}

#[tokio::test]
async fn without_the_database_the_last_log_is_shown_and_a_note() {
    let (fleet, first, _) = declared_again().await;
    fleet.home.write("state/logs/demo.log", &log(&first, "old"));
    let away = "postgresql://nobody@127.0.0.1:1/nothing";
    let home = fleet.home.with("KINDLER_DATABASE_URL", away);
    let said = home.run(&["logs", "demo"]).await.ends(0);
    assert_eq!(said.out, log(&first, "old"));
    said.complains("may be of an earlier cluster named demo");
}

#[tokio::test]
async fn a_deletion_that_was_awaited_is_not_undone_by_a_later_cluster() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.ends(0);
    let waiting = fleet.run(&["delete", "demo", "--wait", "--timeout", "20s"]);
    let replaced = async {
        let absent = || async { fleet.desired("demo").await == "absent" };
        crate::kit::eventually(super::rig::SOON, "the deletion", absent).await;
        let again = "INSERT INTO clusters (name, provider) VALUES ('demo', 'k3d')";
        let sql = format!("{}; {again}", removal("demo"));
        fleet.database.execute(&sql).await;
    };
    let (said, ()) = tokio::join!(waiting, replaced);
    assert!(said.ends(0).out.contains("cluster demo is gone"));
}
