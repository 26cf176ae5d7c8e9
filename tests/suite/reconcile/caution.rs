//! What keeps one mistake from harming many clusters: the cap on deletions.

use std::time::Duration;

use super::{SOON, migrated, run, text, until};
use crate::kit::{Daemon, Host, eventually, kindler};

const RUNNING: &str = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";

fn deletes(host: &Host) -> usize {
    let started = |entry: &&crate::kit::Entry| entry.what == "start" && entry.verb == "delete";
    host.journal().iter().filter(started).count()
}

#[tokio::test]
async fn a_wave_of_deletions_is_held_back_and_none_is_dropped() {
    let (database, host) = (migrated().await, Host::new());
    let start = || {
        Daemon::builder(&database.url(), &host)
            .set("KINDLER_DELETE_CAP", "3")
            .spawn()
    };
    let daemons = [start(), start()];
    for daemon in &daemons {
        daemon.ready().await;
    }
    let sql = database.connect().await;
    run(&sql, "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 8) n").await;
    eventually(SOON, "all to run", || async {
        text(&sql, RUNNING).await == "8"
    })
    .await;

    run(&sql, "UPDATE clusters SET desired_state = 'absent'").await;
    let held = "SELECT count(*)::text FROM clusters WHERE status_reason = 'DeletionHeld'
                AND actual_state = 'running' AND failed_attempts = 0 AND next_attempt_at > now() + interval '30 s'
                AND status_message LIKE '%at most 3 begin within a minute (KINDLER_DELETE_CAP)%'";
    eventually(SOON, "five to be held", || async {
        text(&sql, held).await == "5"
    })
    .await;
    let left = "SELECT count(*)::text FROM clusters";
    eventually(SOON, "three to go", || async {
        text(&sql, left).await == "5"
    })
    .await;
    // Nothing sneaks past: two resyncs, checks and rings later it is the same.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((deletes(&host), text(&sql, left).await.as_str()), (3, "5"));
    assert_eq!(daemons[0].metric("kindler_deletions_held").await, Some(5.0));
    let status = kindler(&database.url(), &host)
        .arg("status")
        .output()
        .unwrap();
    let told = String::from_utf8(status.stdout).unwrap();
    assert!(
        told.contains("the deletion of 5 clusters: KINDLER_DELETE_CAP"),
        "{told}"
    );
    for daemon in &daemons {
        assert!(
            daemon.log().matches("deletions are deferred").count() <= 1,
            "{}",
            daemon.log()
        );
    }
    let logs = daemons
        .iter()
        .map(|daemon| daemon.log())
        .collect::<String>();
    assert!(logs.contains("deletions are deferred"), "{logs}");

    // A minute passes, twice, and a person is impatient.
    for (begun, left_then) in [(6, "2"), (8, "0")] {
        run(
            &sql,
            "UPDATE cluster_deletions SET begun_at = begun_at - interval '1 min';
                   UPDATE clusters SET retry_requested_at = clock_timestamp()",
        )
        .await;
        eventually(SOON, "the next to go", || async {
            text(&sql, left).await == left_then
        })
        .await;
        assert_eq!(deletes(&host), begun);
    }
    // The replica that held something back tells the end when it next deletes;
    // which of the two that is, nobody knows.
    eventually(SOON, "the end of the wave to be told", || async {
        run(
            &sql,
            "UPDATE cluster_deletions SET begun_at = begun_at - interval '1 min';
             INSERT INTO clusters (name, provider, desired_state, actual_state)
             VALUES ('later', 'k3d', 'absent', 'failed') ON CONFLICT DO NOTHING",
        )
        .await;
        daemons
            .iter()
            .any(|daemon| daemon.log().contains("no deletion is deferred any more"))
    })
    .await;
    host.assert_one_at_a_time();
}

#[tokio::test]
async fn no_cap_holds_nothing_and_a_withdrawn_deletion_is_forgotten() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_DELETE_CAP", "1")
        .spawn();
    daemon.ready().await;
    let sql = database.connect().await;
    run(&sql, "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 4) n").await;
    eventually(SOON, "all to run", || async {
        text(&sql, RUNNING).await == "4"
    })
    .await;
    run(
        &sql,
        "UPDATE clusters SET desired_state = 'absent' WHERE name = 'c1'",
    )
    .await;
    until(&sql, "c1", "gone").await;
    run(&sql, "UPDATE clusters SET desired_state = 'absent'").await;
    let held = "SELECT count(*)::text FROM clusters WHERE status_reason = 'DeletionHeld'";
    eventually(SOON, "three to be held", || async {
        text(&sql, held).await == "3"
    })
    .await;
    run(
        &sql,
        "UPDATE clusters SET desired_state = 'present' WHERE name = 'c2'",
    )
    .await;
    let healthy = "SELECT status_reason FROM clusters WHERE name = 'c2'";
    eventually(SOON, "c2 to be as before", || async {
        text(&sql, healthy).await == "Healthy"
    })
    .await;
    assert_eq!(host.started("c2"), ["create"]);

    assert!(daemon.stop().await.success());
    let _unbound = Daemon::builder(&database.url(), &host)
        .set("KINDLER_DELETE_CAP", "0")
        .spawn();
    run(
        &sql,
        "UPDATE clusters SET retry_requested_at = clock_timestamp()",
    )
    .await;
    until(&sql, "c3", "gone").await;
    until(&sql, "c4", "gone").await;
    until(&sql, "c2", "present running").await;
}

/// Six clusters that ran, and a daemon whose checks are rare: what fails next
/// is lost one by one, long before the others are due.
async fn six_running(health_interval: &str) -> (crate::kit::Database, Host, Daemon) {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_HEALTH_INTERVAL", health_interval)
        .spawn();
    daemon.ready().await;
    let sql = database.connect().await;
    run(&sql, "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 6) n").await;
    eventually(SOON, "all to run", || async {
        text(&sql, RUNNING).await == "6"
    })
    .await;
    (database, host, daemon)
}

const HELD: &str = "SELECT count(*)::text FROM clusters
    WHERE actual_state = 'running' AND status_reason = 'RepairHeld' AND health_failures < 3
      AND status_message LIKE '%repairs are deferred while most clusters do not answer%'";

#[tokio::test]
async fn nothing_is_repaired_while_the_container_runtime_is_down() {
    let (database, host, daemon) = six_running("1s").await;
    let sql = database.connect().await;
    // Every probe fails, and the provider's list is empty: as if all were gone.
    host.control("probe", "echo connection refused; exit 1");
    host.control("exists", "exit 1");
    eventually(SOON, "all to be held", || async {
        text(&sql, HELD).await == "6"
    })
    .await;
    // A first creation is not held; that this host cannot do it is its own failure.
    run(&sql, &super::insert("new")).await;
    until(&sql, "new", "present failed").await;
    assert_eq!(host.started("new")[0], "create");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(text(&sql, HELD).await, "6");
    assert_eq!(daemon.metric("kindler_repairs_held").await, Some(6.0));
    let status = kindler(&database.url(), &host)
        .arg("status")
        .output()
        .unwrap();
    let told = String::from_utf8(status.stdout).unwrap();
    assert_eq!(status.status.code(), Some(1), "{told}");
    assert!(
        told.contains("the repair of 6 clusters: most clusters do not answer"),
        "{told}"
    );
    let events = "SELECT count(*)::text FROM cluster_events WHERE cluster_name = 'c1' AND reason = 'RepairHeld'";
    assert_eq!(
        text(&sql, events).await,
        "1",
        "told once, not with every look"
    );

    host.release("probe");
    host.release("exists");
    let healthy =
        "SELECT count(*)::text FROM clusters WHERE name <> 'new' AND status_reason = 'Healthy'";
    eventually(SOON, "all to be well", || async {
        text(&sql, healthy).await == "6"
    })
    .await;
    until(&sql, "new", "present running").await;
    for n in 1..=6 {
        assert_eq!(host.started(&format!("c{n}")), ["create"]);
    }
    eventually(SOON, "the end to be told", || async {
        daemon.log().contains("repairs resume")
    })
    .await;
    assert_eq!(
        daemon.log().matches("most clusters do not answer").count(),
        1,
        "{}",
        daemon.log()
    );
    assert_eq!(daemon.metric("kindler_repairs_held").await, Some(0.0));
}

#[tokio::test]
async fn the_first_to_be_lost_asks_the_others_and_a_person_may_insist() {
    let (database, host, _daemon) = six_running("1h").await;
    let sql = database.connect().await;
    for n in 1..=6 {
        host.set_world(&format!("c{n}"), Some("ill"));
    }
    // Only one is due; no other was looked at for a while.
    tokio::time::sleep(Duration::from_secs(1)).await;
    run(
        &sql,
        "UPDATE clusters SET next_check_at = NULL WHERE name = 'c1'",
    )
    .await;
    let reason = "SELECT status_reason FROM clusters WHERE name = 'c1'";
    eventually(SOON, "c1 to be held", || async {
        text(&sql, reason).await == "RepairHeld"
    })
    .await;
    assert_eq!(host.started("c1"), ["create"]);
    let output = kindler(&database.url(), &host)
        .args(["retry", "c1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    eventually(SOON, "the repair", || async {
        host.started("c1").len() == 2
    })
    .await;
    eventually(SOON, "c1 to be well", || async {
        ["Created", "Healthy"].contains(&text(&sql, reason).await.as_str())
    })
    .await;
}

#[tokio::test]
async fn one_of_many_is_repaired_and_so_are_all_of_a_few() {
    let (database, host, _daemon) = six_running("1s").await;
    let sql = database.connect().await;
    host.set_world("c1", Some("ill"));
    eventually(SOON, "the repair", || async {
        host.started("c1") == ["create", "create"]
    })
    .await;
    run(
        &sql,
        "UPDATE clusters SET desired_state = 'absent' WHERE name IN ('c1', 'c2', 'c3')",
    )
    .await;
    eventually(SOON, "three to be left", || async {
        text(&sql, RUNNING).await == "3"
    })
    .await;
    for n in 4..=6 {
        host.set_world(&format!("c{n}"), Some("ill"));
    }
    for n in 4..=6 {
        let name = format!("c{n}");
        eventually(SOON, "the repair", || async {
            host.started(&name).len() == 2
        })
        .await;
        until(&sql, &name, "present running").await;
    }
}
