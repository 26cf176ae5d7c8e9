//! The steps of a cluster in `get`, `events` and `--wait`; the test acts as the
//! reconciler.

use super::rig::wait_for;
use super::rig::{Fleet, Home};
use super::waiting::{Lines, start};
use crate::kit::Sql;

/// Records a step of `demo`; `rest` is the columns after its state.
async fn record(fleet: &Fleet, name: &str, position: u32, required: bool, state: &str, rest: &str) {
    let sql = format!(
        "INSERT INTO cluster_steps (uid, driver, name, position, total, version, required, state, attempt, \
             reason, message, started_at, finished_at, next_try_at) \
         SELECT uid, 'sandbox', '{name}', {position}, 5, 1, {required}, '{state}', {rest} \
         FROM clusters WHERE name = 'demo'"
    );
    fleet.database.run(&sql).await;
}

async fn fleet() -> Fleet {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    let done =
        "1, 'Applied', 'applied in 3.0 s', now() - interval '9 s', now() - interval '6 s', NULL";
    record(&fleet, "folder", 1, true, "done", done).await;
    let running = "1, 'Started', 'begun', now() - interval '70 s', NULL, NULL";
    record(&fleet, "port", 2, true, "running", running).await;
    let failed = "2, 'Failed', E'the disk is full\\x1b[2J', now(), now(), now() + interval '50 s'";
    record(&fleet, "about", 5, false, "failed", failed).await;
    fleet
}

#[tokio::test]
async fn get_shows_the_steps_as_a_table() {
    let fleet = fleet().await;
    let text = fleet.run(&["get", "demo"]).await.exits(0).out;
    let table: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("STEP"))
        .collect();
    let columns: Vec<_> = table[0].split_whitespace().collect();
    assert_eq!(
        columns,
        ["STEP", "STATE", "ATTEMPT", "DURATION", "MESSAGE", "NEXT"]
    );
    assert_eq!(table.len(), 4, "{text}");
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeezed(table[1]), "folder done 1 3s applied in 3.0 s -");
    assert!(
        squeezed(table[2]).starts_with("port running 1 1m1"),
        "{text}"
    );
    let about = squeezed(table[3]);
    assert!(
        about.starts_with("about failed (best effort) 2 0.0s Failed: the disk is full"),
        "{text}"
    );
    assert!(about.contains(" in 4") && !text.contains('\x1b'), "{text}");
}

#[tokio::test]
async fn get_shows_no_table_before_the_first_step() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    let text = fleet.run(&["get", "demo"]).await.exits(0).out;
    assert!(!text.contains("STEP"), "{text}");
}

#[tokio::test]
async fn steps_fit_a_narrow_window() {
    let fleet = fleet().await;
    let home = Home::new()
        .with("DATABASE_URL", fleet.database.url())
        .with("COLUMNS", "40");
    let text = home.run(&["get", "demo"]).await.exits(0).out;
    let table: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("STEP"))
        .collect();
    assert!(
        table.iter().all(|line| line.chars().count() <= 40),
        "{text}"
    );
    assert!(table.iter().any(|line| line.starts_with("about")), "{text}");
}

#[tokio::test]
async fn json_has_the_steps_as_in_the_api() {
    let fleet = fleet().await;
    let get = fleet
        .run(&["get", "demo", "-o", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!(get["name"], "demo");
    let steps = get["steps"].as_array().expect("an array");
    let names: Vec<_> = steps
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["folder", "port", "about"]);
    assert_eq!(steps[2]["state"], "failed");
    assert_eq!(steps[2]["required"], false);
    assert!(steps[2]["next_try_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(steps[0].get("input_hash"), None);
}

#[tokio::test]
async fn events_show_which_step_ended_and_how() {
    let fleet = fleet().await;
    let text = fleet.run(&["events", "demo"]).await.exits(0).out;
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("  step "))
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].contains("  folder: applied in 3.0 s  by "),
        "{text}"
    );
    let failed = "  about: Failed: the disk is full  (attempt 2)  by ";
    assert!(lines[1].contains(failed), "{text}");
}

#[tokio::test]
async fn a_wait_shows_the_running_step() {
    let fleet = Fleet::new().await;
    let mut child = start(&fleet, &["create", "demo", "--wait"], "present").await;
    let started = "1, 'Started', 'begun', now(), NULL, NULL";
    record(&fleet, "folder", 1, true, "running", started).await;
    fleet
        .status(
            "demo",
            "actual_state = 'creating', status_message = 'create begun'",
        )
        .await;
    let mut stderr = Lines::of(&mut child);
    stderr.until("demo creating: step 1 of 5: folder").await;
    let next = "UPDATE cluster_steps SET state = 'done', finished_at = now()";
    fleet.database.run(next).await;
    let started = "1, 'Started', 'begun', now() + interval '1 s', NULL, NULL";
    record(&fleet, "process", 3, true, "running", started).await;
    fleet
        .status("demo", "status_message = 'step 3 of 5: process'")
        .await;
    stderr.until("demo creating: step 3 of 5: process").await;
    fleet.reached("demo", "running").await;
    wait_for(child).await.exits(0);
}
