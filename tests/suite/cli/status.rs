//! `kindler status` tells the truth, and its exit code does, too.

use kindler::store::SCHEMA_VERSION;

use super::rig::{Fleet, Home};

#[tokio::test]
async fn all_is_well_with_a_listening_daemon_and_no_failure() {
    let fleet = Fleet::new().await;
    let said = fleet.run(&["status"]).await.ends(1);
    assert!(
        said.out.contains("none is running; next: kindler serve"),
        "{said:?}"
    );
    fleet.daemon("silent", 16, true).await;
    fleet.run(&["status"]).await.ends(1);
    fleet.daemon("deaf", 0, false).await;
    let said = fleet.run(&["status"]).await.ends(1);
    assert!(said.out.contains("NOT listening"), "{said:?}");
    fleet.daemon("well", 0, true).await;
    let said = fleet.run(&["status"]).await.ends(0);
    assert!(
        said.out
            .contains("well pid 4711 version 0.1.0, http 127.0.0.1:8080"),
        "{said:?}"
    );
    assert!(
        said.out.contains("silent pid 4711") && said.out.contains("no heartbeat for 1"),
        "{said:?}"
    );
    let schema = format!("schema version {SCHEMA_VERSION}");
    assert!(said.out.contains(&schema) && said.out.contains("none is declared"));
}

#[tokio::test]
async fn a_daemon_that_crashes_all_the_time_does_not_hide_the_others() {
    let fleet = Fleet::new().await;
    for n in 0..50 {
        fleet.daemon(&format!("crashed-{n}"), 60, false).await;
    }
    fleet.daemon("well", 0, true).await;
    let said = fleet.run(&["status"]).await.ends(0);
    assert!(said.out.contains("well pid 4711"), "{said:?}");
    assert_eq!(said.out.matches("crashed-").count(), 3, "{said:?}");
    assert!(
        said.out
            .contains("and 47 more that stopped sending heartbeats"),
        "{said:?}"
    );
    let report = fleet.run(&["status", "-o", "json"]).await.ends(0).json();
    assert_eq!(report["daemons"].as_array().unwrap().len(), 51);
}

#[tokio::test]
async fn daemons_that_stand_aside_are_told_and_are_not_enough() {
    let fleet = Fleet::new().await;
    fleet.daemon("old", 0, true).await;
    fleet.stands_aside("old").await;
    let said = fleet.run(&["status"]).await.ends(1);
    let told = "all replicas are on standby: the schema is newer";
    assert!(said.out.contains(told), "{said:?}");
    assert!(
        said.out.contains("; STANDBY; the schema is newer"),
        "{said:?}"
    );
    let report = fleet.run(&["status", "-o", "json"]).await.ends(1).json();
    assert_eq!(report["ok"], false);
    assert_eq!(report["daemons"][0]["aside"], true);
    // One that works and does not listen beside one that listens and does not work.
    fleet.daemon("deaf", 0, false).await;
    let said = fleet.run(&["status"]).await.ends(1);
    assert!(!said.out.contains(told), "{said:?}");
    fleet.daemon("new", 0, true).await;
    let said = fleet.run(&["status"]).await.ends(0);
    assert!(
        said.out.contains("STANDBY") && !said.out.contains(told),
        "{said:?}"
    );
}

#[tokio::test]
async fn work_and_failures_are_told_with_the_next_try() {
    let fleet = Fleet::new().await;
    fleet.daemon("well", 0, true).await;
    fleet.run(&["create", "demo"]).await.ends(0);
    fleet.run(&["create", "bad"]).await.ends(0);
    fleet
        .status(
            "demo",
            "actual_state = 'creating', status_message = 'running create_env.sh'",
        )
        .await;
    fleet
        .database
        .execute(
            "INSERT INTO cluster_leases (cluster_name, owner, term, acquired_at, renewed_at, expires_at) \
             VALUES ('demo', 'well-1', 7, now() - interval '65 s', now(), now() + interval '1 h')",
        )
        .await;
    fleet.run(&["status"]).await.ends(0);
    let failed = "actual_state = 'failed', failed_attempts = 2, \
                  next_attempt_at = now() + interval '50 s', status_message = 'exited with code 1'";
    fleet.status("bad", failed).await;
    let said = fleet.run(&["status"]).await.ends(1);
    assert!(said.out.contains("demo creating for 1m"), "{said:?}");
    assert!(said.out.contains("running create_env.sh"), "{said:?}");
    assert!(
        said.out
            .contains("bad: exited with code 1 (attempt 2, next in 4"),
        "{said:?}"
    );
    assert!(
        said.out.contains("1 creating") && said.out.contains("1 failed"),
        "{said:?}"
    );

    let report = fleet.run(&["status", "-o", "json"]).await.ends(1).json();
    assert_eq!(report["ok"], false);
    assert_eq!(report["database"]["reachable"], true);
    assert_eq!(report["database"]["schema_version"], SCHEMA_VERSION);
    assert_eq!(report["daemons"][0]["host"], "well");
    assert_eq!(report["daemons"][0]["alive"], true);
    assert_eq!(report["working"][0]["cluster_name"], "demo");
    assert_eq!(report["failing"][0]["name"], "bad");
    assert_eq!(report["counts"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn no_database_is_told_as_such() {
    let home = Home::new().with("DATABASE_URL", "postgresql://u@127.0.0.1:1/x");
    home.run(&["status"])
        .await
        .ends(2)
        .complains("hint: check KINDLER_DATABASE_URL");
    let said = home.run(&["status", "-o", "json"]).await.ends(2);
    assert_eq!(said.json()["database"]["reachable"], false);
    Home::new()
        .run(&["status"])
        .await
        .ends(2)
        .complains("no database is set");
    let home = Home::new();
    home.write("state/database-url", "postgresql://u@127.0.0.1:1/x");
    home.run(&["status"])
        .await
        .ends(2)
        .complains("is it still running?");
}
