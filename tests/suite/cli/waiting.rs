//! `--wait`: the test plays the reconciler.

use tokio::process::Child;

use super::rig::{Fleet, Home, SOON, end_of};
use crate::kit::{PrivateServer, eventually};

/// Starts a command, and returns when its declaration is in the row.
pub async fn start(fleet: &Fleet, args: &[&str], desired: &str) -> Child {
    let child = fleet.home.start(args);
    let row = format!(
        "SELECT count(*) FROM clusters WHERE name = 'demo' AND desired_state = '{desired}'"
    );
    eventually(SOON, "the declaration", || async {
        fleet.database.value::<i64>(&row).await == 1
    })
    .await;
    child
}

#[tokio::test]
async fn create_waits_for_running_and_shows_the_way() {
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
    let said = end_of(child).await.ends(0);
    assert!(
        said.out.contains("cluster demo is running after "),
        "{said:?}"
    );
    assert!(
        !said.err.contains('\x1b') && !said.err.contains("no daemon"),
        "{said:?}"
    );
}

#[tokio::test]
async fn progress_is_told_in_plain_lines_on_change() {
    let fleet = Fleet::new().await;
    let mut child = start(&fleet, &["create", "demo", "--wait"], "present").await;
    fleet
        .status(
            "demo",
            "actual_state = 'creating', status_message = 'running create_env.sh'",
        )
        .await;
    let mut told = Lines::of(&mut child);
    told.until("demo creating: running create_env.sh").await;
    let failed = "actual_state = 'failed', failed_attempts = 1, \
                  next_attempt_at = now() + interval '1 h', status_message = 'exited with code 1'";
    fleet.status("demo", failed).await;
    told.until("demo failed: exited with code 1 (attempt 1 failed, next in ")
        .await;
    told.until("no daemon is running on this database").await;
    fleet.reached("demo", "running").await;
    end_of(child).await.ends(0);
}

#[tokio::test]
async fn a_timeout_tells_failed_from_still_working() {
    let fleet = Fleet::new().await;
    let args = ["create", "demo", "--wait", "--timeout", "1s"];
    fleet
        .run(&args)
        .await
        .ends(3)
        .complains("timed out after 1s; it is unknown: no daemon has observed it yet\n")
        .complains("next: kindler status\n");
    let failed =
        "actual_state = 'failed', failed_attempts = 1, status_message = 'exited with code 1'";
    fleet.status("demo", failed).await;
    fleet
        .run(&args)
        .await
        .ends(1)
        .complains("it is failed: exited with code 1");
    fleet
        .run(&["delete", "demo", "--wait", "--timeout", "1s"])
        .await
        .ends(1);
}

#[tokio::test]
async fn who_waits_hears_that_every_daemon_stands_aside() {
    let fleet = Fleet::new().await;
    fleet.daemon("old", 0, true).await;
    fleet.stands_aside("old").await;
    fleet
        .run(&["create", "demo", "--wait", "--timeout", "5s"])
        .await
        .ends(3)
        .complains("note: all replicas are on standby: the schema is newer");
}

#[tokio::test]
async fn delete_waits_for_the_row_to_go() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.ends(0);
    let child = start(&fleet, &["delete", "demo", "--wait"], "absent").await;
    fleet.status("demo", "actual_state = 'deleting'").await;
    fleet.force("DELETE FROM clusters").await;
    let said = end_of(child).await.ends(0);
    assert!(said.out.contains("cluster demo is gone after "), "{said:?}");
}

#[tokio::test]
async fn stop_start_and_retry_wait_for_what_they_declared() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.ends(0);
    let child = start(&fleet, &["stop", "demo", "--wait"], "stopped").await;
    fleet.reached("demo", "stopped").await;
    assert!(
        end_of(child)
            .await
            .ends(0)
            .out
            .contains("cluster demo is stopped after ")
    );
    let child = start(&fleet, &["start", "demo", "--wait"], "present").await;
    fleet.reached("demo", "running").await;
    end_of(child).await.ends(0);

    // It is as declared already: a retry is done when somebody looked again.
    fleet
        .run(&["retry", "demo", "--wait", "--timeout", "1s"])
        .await
        .ends(3);
    let retried = "SELECT count(*) FROM cluster_events WHERE kind = 'retry'";
    let child = fleet.home.start(&["retry", "demo", "--wait"]);
    eventually(SOON, "the second retry", || async {
        fleet.database.value::<i64>(retried).await == 2
    })
    .await;
    fleet.reached("demo", "running").await;
    end_of(child).await.ends(0);
}

#[tokio::test]
async fn a_wait_ends_when_somebody_declares_otherwise() {
    let fleet = Fleet::new().await;
    let child = start(&fleet, &["create", "demo", "--wait"], "present").await;
    fleet
        .database
        .execute("UPDATE clusters SET desired_state = 'absent'")
        .await;
    end_of(child)
        .await
        .ends(1)
        .complains("it was declared absent meanwhile");
}

#[tokio::test]
async fn a_database_outage_is_reported_and_waited_out() {
    let server = PrivateServer::create().await;
    let database = server.database().await;
    let parsed = kindler::core::database::Database::parse(&database.url()).unwrap();
    kindler::store::migrate(&parsed).await.unwrap();
    let home = Home::new().with("DATABASE_URL", database.url());
    let fleet = Fleet { database, home };
    let mut child = start(&fleet, &["create", "demo", "--wait"], "present").await;
    let mut told = Lines::of(&mut child);
    told.until("demo unknown").await;
    server.stop_fast().await;
    told.until("waiting for the database: ").await;
    server.start().await;
    told.until("the database answers again").await;
    fleet.reached("demo", "running").await;
    end_of(child).await.ends(0);
}

/// Stderr of a running command, line by line.
pub struct Lines(tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStderr>>);

impl Lines {
    pub fn of(child: &mut Child) -> Self {
        use tokio::io::AsyncBufReadExt;
        Self(tokio::io::BufReader::new(child.stderr.take().unwrap()).lines())
    }

    /// Reads until a line has these words.
    pub async fn until(&mut self, words: &str) {
        let mut read = Vec::new();
        let found = tokio::time::timeout(SOON, async {
            while let Some(line) = self.0.next_line().await.unwrap() {
                if line.contains(words) {
                    return true;
                }
                read.push(line);
            }
            false
        });
        assert!(found.await.unwrap_or(false), "no {words:?} in {read:#?}");
    }
}
