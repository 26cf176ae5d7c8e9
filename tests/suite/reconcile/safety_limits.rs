//! Safety limits: the cap on deletions, and no repairs while most clusters are down.

use std::time::Duration;

use crate::kit::{Daemon, Host, Sql, TIMEOUT, eventually, kindler_output, migrated};

const RUNNING: &str = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";

fn started_deletes(host: &Host) -> usize {
    let started =
        |entry: &&crate::kit::JournalEntry| entry.what == "start" && entry.verb == "delete";
    host.journal().iter().filter(started).count()
}

#[tokio::test]
async fn deletions_beyond_the_cap_are_deferred_and_not_dropped() {
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
    sql.declare_many("c", 8).await;
    sql.wait_text(RUNNING, "8").await;

    sql.run("UPDATE clusters SET desired_state = 'absent'")
        .await;
    let deferred = "SELECT count(*)::text FROM clusters WHERE status_reason = 'DeletionHeld'
                AND actual_state = 'running' AND failed_attempts = 0 AND next_attempt_at > now() + interval '30 s'
                AND status_message LIKE 'deferred: 3 deletions a minute (KINDLER_DELETE_CAP=3), position %, begins in about %'";
    sql.wait_text(deferred, "5").await;
    let rows = "SELECT count(*)::text FROM clusters";
    sql.wait_text(rows, "5").await;
    // The cap also holds over two resyncs, more checks and notifications.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        (started_deletes(&host), sql.text(rows).await.as_str()),
        (3, "5")
    );
    for metric in ["kindler_deletions_deferred", "kindler_deletions_held"] {
        assert_eq!(daemons[0].metric(metric).await, Some(5.0), "{metric}");
    }
    let (status, _) = kindler_output(&database.url(), &host, &["status"]);
    assert!(
        status.contains("deletion of 5 clusters: KINDLER_DELETE_CAP=3")
            && status.contains("to stop them: UPDATE clusters SET paused = true"),
        "{status}"
    );
    // What a list shows is of this moment, with the position in the queue.
    let (list, _) = kindler_output(&database.url(), &host, &["list"]);
    for position in 1..=5 {
        let line = format!("position {position}, begins in about ");
        assert_eq!(list.matches(&line).count(), 1, "{list}");
    }
    for daemon in &daemons {
        assert!(
            daemon.log().matches("deletions are deferred").count() <= 1,
            "{}",
            daemon.log()
        );
    }
    let logs: String = daemons.iter().map(Daemon::log).collect();
    assert!(logs.contains("deletions are deferred"), "{logs}");

    // A minute passes, twice, and a person requests retries.
    for (deletions, rows_left) in [(6, "2"), (8, "0")] {
        sql.run(
            "UPDATE cluster_deletions SET begun_at = begun_at - interval '1 min';
                   UPDATE clusters SET retry_requested_at = clock_timestamp()",
        )
        .await;
        sql.wait_text(rows, rows_left).await;
        assert_eq!(started_deletes(&host), deletions);
    }
    // Only the replica that deferred deletions logs the end, when it next deletes;
    // either replica may be that one.
    eventually(TIMEOUT, "the log line that no deletion waits", || async {
        sql.run(
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
async fn cap_zero_defers_nothing_and_a_withdrawn_deletion_ends() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_DELETE_CAP", "1")
        .start()
        .await;
    let sql = database.connect().await;
    sql.declare_many("c", 4).await;
    sql.wait_text(RUNNING, "4").await;
    sql.desire("c1", "absent").await;
    sql.wait_state("c1", "gone").await;
    sql.run("UPDATE clusters SET desired_state = 'absent'")
        .await;
    let deferred = "SELECT count(*)::text FROM clusters WHERE status_reason = 'DeletionHeld'";
    sql.wait_text(deferred, "3").await;
    sql.desire("c2", "present").await;
    let healthy = "SELECT status_reason FROM clusters WHERE name = 'c2'";
    sql.wait_text(healthy, "Healthy").await;
    assert_eq!(host.started("c2"), ["create"]);

    assert!(daemon.stop().await.success());
    let _uncapped = Daemon::builder(&database.url(), &host)
        .set("KINDLER_DELETE_CAP", "0")
        .spawn();
    sql.run("UPDATE clusters SET retry_requested_at = clock_timestamp()")
        .await;
    sql.wait_state("c3", "gone").await;
    sql.wait_state("c4", "gone").await;
    sql.wait_state("c2", "present running").await;
}

/// So many running clusters, a daemon that checks them at this interval, and how long repairs
/// are suspended.
async fn running_clusters(
    number: usize,
    health_interval: &str,
    suspension: &str,
) -> (crate::kit::Database, Host, Daemon) {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_HEALTH_INTERVAL", health_interval)
        .set("KINDLER_REPAIR_SUSPENSION", suspension)
        // An observation counts for three times this: long enough on a busy machine.
        .set("KINDLER_HEALTH_REPROBE", "400ms")
        .start()
        .await;
    let sql = database.connect().await;
    sql.declare_many("c", number).await;
    sql.wait_text(RUNNING, &number.to_string()).await;
    (database, host, daemon)
}

async fn six_running_clusters(health_interval: &str) -> (crate::kit::Database, Host, Daemon) {
    running_clusters(6, health_interval, "1h").await
}

const DEFERRED_REPAIRS: &str = "SELECT count(*)::text FROM clusters
    WHERE actual_state = 'running' AND status_reason = 'RepairHeld' AND health_failures < 3
      AND status_message LIKE '%repairs are deferred while most clusters do not answer%'";

#[tokio::test]
async fn nothing_is_repaired_while_most_clusters_are_down() {
    let (database, host, daemon) = six_running_clusters("1s").await;
    let sql = database.connect().await;
    host.control("probe", "echo connection refused; exit 1");
    sql.wait_text(DEFERRED_REPAIRS, "6").await;
    // A first creation is not deferred; on this host it fails by itself.
    sql.declare("new").await;
    sql.wait_state("new", "present failed").await;
    assert_eq!(host.started("new")[0], "create");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(sql.text(DEFERRED_REPAIRS).await, "6");
    assert_eq!(daemon.metric("kindler_repairs_deferred").await, Some(6.0));
    let (status, code) = kindler_output(&database.url(), &host, &["status"]);
    assert_eq!(code, Some(1), "{status}");
    assert!(
        status.contains("repair of 6 clusters: most clusters do not answer"),
        "{status}"
    );
    let events = "SELECT count(*)::text FROM cluster_events WHERE cluster_name = 'c1' AND reason = 'RepairHeld'";
    assert_eq!(
        sql.text(events).await,
        "1",
        "one event, not one for each check"
    );

    host.release("probe");
    let healthy =
        "SELECT count(*)::text FROM clusters WHERE name <> 'new' AND status_reason = 'Healthy'";
    sql.wait_text(healthy, "6").await;
    sql.wait_state("new", "present running").await;
    for n in 1..=6 {
        assert_eq!(host.started(&format!("c{n}")), ["create"]);
    }
    eventually(TIMEOUT, "the log line that repairs go on", || async {
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

/// Nothing is known to be ill, so nothing is repaired; the cause is of all clusters all the same.
#[tokio::test]
async fn status_quotes_the_probe_that_cannot_run_for_most() {
    let (database, host, daemon) = six_running_clusters("1s").await;
    let sql = database.connect().await;
    host.control("probe", "echo kubectl: not found; exit 127");
    let deferred = "SELECT count(*)::text FROM clusters WHERE status_reason = 'RepairHeld'";
    sql.wait_text(deferred, "6").await;
    eventually(TIMEOUT, "the finding with the probe's words", || async {
        let (status, code) = kindler_output(&database.url(), &host, &["status"]);
        let lines: Vec<_> = status
            .lines()
            .filter(|line| line.contains("RepairsSuspended"))
            .collect();
        println!("{status}");
        code == Some(1) && lines.len() == 1 && lines[0].contains("could not run")
    })
    .await;
    host.release("probe");
    eventually(TIMEOUT, "the end of the finding", || async {
        let (_, metrics) = daemon.get("/metrics").await?;
        let suspended = metrics
            .lines()
            .any(|line| line.contains("RepairsSuspended") && line.ends_with(" 1"));
        (!suspended).then_some(())
    })
    .await;
}

/// The provider's list is empty, as on another engine: they are not created again by themselves.
#[tokio::test]
async fn clusters_that_vanish_together_are_not_created_again() {
    let (database, host, _daemon) = six_running_clusters("1s").await;
    let sql = database.connect().await;
    host.control("probe", "echo connection refused; exit 1");
    host.control("exists", "exit 1");
    let deferred = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'
        AND status_reason = 'RepairHeld' AND status_message LIKE '%vanished at about the same time%'";
    sql.wait_text(deferred, "6").await;
    host.release("probe");
    host.release("exists");
    let healthy = "SELECT count(*)::text FROM clusters WHERE status_reason = 'Healthy'";
    sql.wait_text(healthy, "6").await;
    for n in 1..=6 {
        assert_eq!(host.started(&format!("c{n}")), ["create"]);
    }
}

#[tokio::test]
async fn the_first_lost_cluster_causes_checks_of_the_others() {
    let (database, host, _daemon) = six_running_clusters("1h").await;
    let sql = database.connect().await;
    for n in 1..=6 {
        host.set_cluster(&format!("c{n}"), Some("unhealthy"));
    }
    // Only c1 is due; the last checks of the others are too old to count.
    tokio::time::sleep(Duration::from_secs(1)).await;
    sql.run("UPDATE clusters SET next_check_at = NULL WHERE name = 'c1'")
        .await;
    let reason = "SELECT status_reason FROM clusters WHERE name = 'c1'";
    sql.wait_text(reason, "RepairHeld").await;
    assert_eq!(host.started("c1"), ["create"]);
    let (_, code) = kindler_output(&database.url(), &host, &["retry", "c1"]);
    assert_eq!(code, Some(0));
    host.wait_started("c1", &["create", "create"]).await;
    eventually(TIMEOUT, "c1 to be healthy", || async {
        ["Created", "Repaired", "Healthy"].contains(&sql.text(reason).await.as_str())
    })
    .await;
}

#[tokio::test]
async fn one_of_many_is_repaired_at_once() {
    let (database, host, _daemon) = six_running_clusters("1s").await;
    let sql = database.connect().await;
    host.set_cluster("c1", Some("unhealthy"));
    host.wait_started("c1", &["create", "create"]).await;
    sql.wait_state("c1", "present running").await;
}

#[tokio::test]
async fn one_to_three_silent_clusters_are_not_repaired_at_once() {
    for number in 1..=3 {
        let (database, host, daemon) = running_clusters(number, "1s", "1h").await;
        let sql = database.connect().await;
        host.control("probe", "echo connection refused; exit 1");
        host.control("exists", "exit 0");
        let all = number.to_string();
        sql.wait_text(DEFERRED_REPAIRS, &all).await;
        let told = "SELECT count(*)::text FROM clusters
            WHERE status_message LIKE '%connection refused%one repair is tried in 59m%kindler retry c%'";
        sql.wait_text(told, &all).await;
        let finding =
            "SELECT findings->0->>'code' || ' ' || (findings->0->>'what') FROM kindler_replicas";
        eventually(TIMEOUT, "the finding", || async {
            let found = sql.text(finding).await;
            found.starts_with("RepairsSuspended ") && found.contains("connection refused")
        })
        .await;
        for n in 1..=number {
            assert_eq!(host.started(&format!("c{n}")), ["create"]);
        }
        host.release("probe");
        host.release("exists");
        sql.wait_text(DEFERRED_REPAIRS, "0").await;
        let ended =
            "SELECT (findings::text NOT LIKE '%RepairsSuspended%')::text FROM kindler_replicas";
        sql.wait_text(ended, "true").await;
        for n in 1..=number {
            assert_eq!(host.started(&format!("c{n}")), ["create"]);
        }
        assert!(daemon.stop().await.success());
    }
}

#[tokio::test]
async fn healthy_clusters_that_are_seldom_checked_are_looked_at_first() {
    // Five suspects are checked often, and six healthy clusters once an hour.
    let (database, host, _daemon) = running_clusters(11, "1h", "1h").await;
    let sql = database.connect().await;
    for n in 1..=5 {
        host.set_cluster(&format!("c{n}"), Some("unhealthy"));
    }
    // The observations after their creates count no more.
    let old =
        "SELECT bool_and(clock_timestamp() - last_reconciled_at > interval '1.5 seconds')::text
        FROM clusters";
    sql.wait_text(old, "true").await;
    sql.run(
        "UPDATE clusters SET next_check_at = NULL WHERE name IN ('c1', 'c2', 'c3', 'c4', 'c5')",
    )
    .await;
    for n in 1..=5 {
        host.wait_started(&format!("c{n}"), &["create", "create"])
            .await;
    }
    let held = "SELECT count(*)::text FROM cluster_events WHERE reason = 'RepairHeld'";
    assert_eq!(sql.text(held).await, "0");
}

#[tokio::test]
async fn a_suspension_ends_after_its_time_by_one_repair() {
    let (database, host, _daemon) = running_clusters(3, "1s", "3s").await;
    let sql = database.connect().await;
    for n in 1..=3 {
        host.set_cluster(&format!("c{n}"), Some("unhealthy"));
    }
    // One repair is tried and succeeds, so the host works: then the others are repaired.
    for n in 1..=3 {
        let name = format!("c{n}");
        host.wait_started(&name, &["create", "create"]).await;
        sql.wait_state(&name, "present running").await;
    }
    let order = "SELECT (min(at) FILTER (WHERE reason = 'HealthLost')
        - min(at) FILTER (WHERE reason = 'RepairHeld') >= interval '2 seconds')::text FROM cluster_events";
    assert_eq!(sql.text(order).await, "true", "not before its time");
}

#[tokio::test]
async fn a_requested_repair_that_succeeds_ends_a_suspension() {
    let (database, host, _daemon) = running_clusters(3, "1s", "1h").await;
    let sql = database.connect().await;
    for n in 1..=3 {
        host.set_cluster(&format!("c{n}"), Some("unhealthy"));
    }
    sql.wait_text(DEFERRED_REPAIRS, "3").await;
    let (text, code) = kindler_output(&database.url(), &host, &["retry", "c2"]);
    assert_eq!(code, Some(0), "{text}");
    for n in 1..=3 {
        let name = format!("c{n}");
        host.wait_started(&name, &["create", "create"]).await;
        sql.wait_state(&name, "present running").await;
    }
}
