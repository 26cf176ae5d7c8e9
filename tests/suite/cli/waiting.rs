//! `--wait`; the test acts as the reconciler.

use tokio::process::Child;

use super::rig::{Fleet, Home, SOON, wait_for};
use crate::kit::{PrivateServer, Sql};

/// Starts a command and waits for its declaration in the row.
pub async fn start(fleet: &Fleet, args: &[&str], desired: &str) -> Child {
    let child = fleet.home.start(args);
    let row = format!(
        "SELECT count(*) FROM clusters WHERE name = 'demo' AND desired_state = '{desired}'"
    );
    fleet.database.wait_number(&row, 1).await;
    child
}

#[tokio::test]
async fn create_waits_for_running_and_shows_progress() {
    let fleet = Fleet::new().await;
    fleet.daemon("well", 0, true).await;
    let child = start(&fleet, &["create", "demo", "--wait"], "present").await;
    fleet
        .status(
            "demo",
            "actual_state = 'running', status_message = 'not of this declaration'",
        )
        .await;
    fleet
        .status(
            "demo",
            "actual_state = 'creating', status_message = 'running create_env.sh'",
        )
        .await;
    fleet.reached("demo", "running").await;
    let result = wait_for(child).await.exits(0);
    assert!(
        result.out.contains("cluster demo is running after "),
        "{result:?}"
    );
    assert!(
        !result.err.contains('\x1b') && !result.err.contains("no daemon"),
        "{result:?}"
    );
}

#[tokio::test]
async fn progress_is_plain_lines_on_change() {
    let fleet = Fleet::new().await;
    let mut child = start(&fleet, &["create", "demo", "--wait"], "present").await;
    fleet
        .status(
            "demo",
            "actual_state = 'creating', status_message = 'running create_env.sh'",
        )
        .await;
    let mut stderr = Lines::of(&mut child);
    stderr.until("demo creating: running create_env.sh").await;
    let failed = "actual_state = 'failed', failed_attempts = 1, \
                  next_attempt_at = now() + interval '1 h', status_message = 'exited with code 1'";
    fleet.status("demo", failed).await;
    stderr
        .until("demo failed: exited with code 1 (attempt 1 failed, next in ")
        .await;
    stderr.until("no daemon is running on this database").await;
    fleet.reached("demo", "running").await;
    wait_for(child).await.exits(0);
}

#[tokio::test]
async fn a_timeout_distinguishes_failed_from_working() {
    let fleet = Fleet::new().await;
    let args = ["create", "demo", "--wait", "--timeout", "1s"];
    fleet
        .run(&args)
        .await
        .exits(3)
        .stderr_has("timed out after 1s; it is unknown: no daemon is running on this database")
        .stderr_has("next: kindler status\n");
    let failed =
        "actual_state = 'failed', failed_attempts = 1, status_message = 'exited with code 1'";
    fleet.status("demo", failed).await;
    fleet
        .run(&args)
        .await
        .exits(1)
        .stderr_has("it is failed: exited with code 1");
    fleet
        .run(&["delete", "demo", "--wait", "--timeout", "1s"])
        .await
        .exits(1);
}

#[tokio::test]
async fn without_a_daemon_create_list_and_get_say_so() {
    let fleet = Fleet::new().await;
    let said = "no daemon is running on this database: start `kindler serve`";
    fleet
        .run(&["create", "demo"])
        .await
        .exits(0)
        .stderr_has(said);
    let list = fleet.run(&["list"]).await.exits(0).stderr_has(said);
    assert!(list.out.contains(said), "{list:?}");
    let get = fleet.run(&["get", "demo"]).await.exits(0);
    assert!(
        get.out.contains(&format!("why           {said}")),
        "{get:?}"
    );
    for args in [
        ["list", "-o", "json"].as_slice(),
        &["get", "demo", "-o", "json"],
    ] {
        let json = fleet.run(args).await.exits(0).out;
        assert!(
            json.contains(said) && json.contains("\"Declared\""),
            "{json}"
        );
    }
    // A failure is not hidden.
    fleet
        .status(
            "demo",
            "actual_state = 'failed', status_message = 'exited with code 1'",
        )
        .await;
    let list = fleet.run(&["list"]).await.exits(0).out;
    assert!(
        list.contains("exited with code 1; no daemon is running"),
        "{list}"
    );
    for verb in ["stop", "start"] {
        fleet.run(&[verb, "demo"]).await.exits(0).stderr_has(said);
    }
    fleet
        .run(&["delete", "demo", "--yes"])
        .await
        .exits(0)
        .stderr_has(said);
}

#[tokio::test]
async fn a_wait_notes_that_all_replicas_are_on_standby() {
    let fleet = Fleet::new().await;
    fleet.daemon("old", 0, true).await;
    fleet.set_standby("old").await;
    fleet
        .run(&["create", "demo", "--wait", "--timeout", "5s"])
        .await
        .exits(3)
        .stderr_has("note: all replicas are on standby: the schema is newer");
}

#[tokio::test]
async fn delete_waits_for_the_removal_of_the_row() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    let child = start(&fleet, &["delete", "demo", "--wait"], "absent").await;
    fleet.status("demo", "actual_state = 'deleting'").await;
    fleet.force("DELETE FROM clusters").await;
    let result = wait_for(child).await.exits(0);
    assert!(
        result.out.contains("cluster demo is gone after "),
        "{result:?}"
    );
}

#[tokio::test]
async fn stop_start_and_retry_wait_for_what_they_declared() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    let child = start(&fleet, &["stop", "demo", "--wait"], "stopped").await;
    fleet.reached("demo", "stopped").await;
    assert!(
        wait_for(child)
            .await
            .exits(0)
            .out
            .contains("cluster demo is stopped after ")
    );
    let child = start(&fleet, &["start", "demo", "--wait"], "present").await;
    fleet.reached("demo", "running").await;
    wait_for(child).await.exits(0);

    // The state is reached already: the retry waits for a later status.
    fleet
        .run(&["retry", "demo", "--wait", "--timeout", "1s"])
        .await
        .exits(3);
    let retried = "SELECT count(*) FROM cluster_events WHERE kind = 'retry'";
    let child = fleet.home.start(&["retry", "demo", "--wait"]);
    fleet.database.wait_number(retried, 2).await;
    fleet.reached("demo", "running").await;
    wait_for(child).await.exits(0);
}

#[tokio::test]
async fn a_wait_ends_after_a_conflicting_declaration() {
    let fleet = Fleet::new().await;
    let child = start(&fleet, &["create", "demo", "--wait"], "present").await;
    fleet
        .database
        .run("UPDATE clusters SET desired_state = 'absent'")
        .await;
    wait_for(child)
        .await
        .exits(1)
        .stderr_has("it was declared absent meanwhile");
}

#[tokio::test]
async fn a_wait_survives_a_database_outage() {
    let server = PrivateServer::create().await;
    let database = server.database().await;
    let parsed = kindler::core::database::Database::parse(&database.url()).unwrap();
    kindler::store::migrate(&parsed).await.unwrap();
    let home = Home::new().with("DATABASE_URL", database.url());
    let fleet = Fleet { database, home };
    let mut child = start(&fleet, &["create", "demo", "--wait"], "present").await;
    let mut stderr = Lines::of(&mut child);
    stderr.until("demo unknown").await;
    server.stop_fast().await;
    stderr.until("waiting for the database: ").await;
    server.start().await;
    stderr.until("the database answers again").await;
    fleet.reached("demo", "running").await;
    wait_for(child).await.exits(0);
}

/// Stderr of a running command, line by line.
pub struct Lines(tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStderr>>);

impl Lines {
    pub fn of(child: &mut Child) -> Self {
        use tokio::io::AsyncBufReadExt;
        Self(tokio::io::BufReader::new(child.stderr.take().unwrap()).lines())
    }

    /// Reads until a line has this text.
    pub async fn until(&mut self, text: &str) {
        let mut read = Vec::new();
        let found = tokio::time::timeout(SOON, async {
            while let Some(line) = self.0.next_line().await.unwrap() {
                if line.contains(text) {
                    return true;
                }
                read.push(line);
            }
            false
        });
        assert!(found.await.unwrap_or(false), "no {text:?} in {read:#?}");
    }
}
