//! Each row of the state matrix, starting from a row as a dead owner may have left it
//! and a host as the row or the crash left it.

use super::{ReconcileRig, rig};
use crate::kit::{Daemon, Host, Sql, eventually, migrated};

/// Inserts a row as a dead owner may have left it. `applied`: its last command had
/// succeeded.
async fn insert_left_row(rig: &ReconcileRig, desired: &str, actual: &str, applied: bool) {
    let hash = if applied { "spec_hash" } else { "NULL" };
    rig.sql
        .run(&format!(
            "BEGIN; ALTER TABLE clusters DISABLE TRIGGER USER;
             INSERT INTO clusters (name, provider, pf_port, http_port, https_port, desired_state, actual_state, observed_generation, driver)
             VALUES ('dev', 'k3d', 19000, 18080, 18443, '{desired}', '{actual}', 1, 'script');
             UPDATE clusters SET observed_spec_hash = {hash};
             ALTER TABLE clusters ENABLE TRIGGER USER; COMMIT"
        ))
        .await;
}

/// Inserts such a row, waits until it is settled, and returns the commands that were
/// started.
async fn converges(
    (desired, actual, applied): (&str, &str, bool),
    cluster: Option<&str>,
    end: &str,
) -> Vec<String> {
    let rig = rig().await;
    rig.host.set_cluster("dev", cluster);
    insert_left_row(&rig, desired, actual, applied).await;
    rig.sql.wait_state("dev", end).await;
    match end {
        "gone" => assert_eq!(rig.host.cluster("dev"), None),
        "stopped stopped" => assert_ne!(rig.host.cluster("dev").as_deref(), Some("healthy")),
        _ => assert_eq!(rig.host.cluster("dev").as_deref(), Some("healthy")),
    }
    rig.host.assert_one_at_a_time();
    rig.host.started("dev")
}

macro_rules! cell {
    ($test:ident: $row:expr, $cluster:expr => $end:literal, $verbs:expr) => {
        #[tokio::test]
        async fn $test() {
            let verbs: [&str; _] = $verbs;
            assert_eq!(converges($row, $cluster, $end).await, verbs);
        }
    };
}

const RUNNING: &str = "present running";

cell!(present_unknown_is_created: ("present", "unknown", false), None => "present running", ["create"]);
cell!(present_failed_and_absent_is_created: ("present", "failed", false), None => "present running", ["create"]);
cell!(present_failed_and_unhealthy_is_repaired: ("present", "failed", true), Some("unhealthy") => "present running", ["create"]);
cell!(present_failed_and_healthy_again_is_not_changed: ("present", "failed", true), Some("healthy") => "present running", []);
cell!(present_creating_and_absent_is_created_again: ("present", "creating", false), None => "present running", ["create"]);
cell!(present_creating_and_half_made_is_created_again: ("present", "creating", false), Some("unhealthy") => "present running", ["create"]);
cell!(present_restarting_and_absent_is_created: ("present", "restarting", true), None => "present running", ["create"]);
cell!(present_restarting_and_unhealthy_is_created: ("present", "restarting", true), Some("unhealthy") => "present running", ["create"]);
cell!(present_restarting_and_healthy_is_not_changed: ("present", "restarting", true), Some("healthy") => "present running", []);
cell!(stopped_restarting_is_stopped: ("stopped", "restarting", true), Some("healthy") => "stopped stopped", ["stop"]);
cell!(absent_restarting_is_deleted: ("absent", "restarting", true), Some("unhealthy") => "gone", ["delete"]);
cell!(present_updating_is_applied_again: ("present", "updating", false), Some("healthy") => "present running", ["create"]);
cell!(present_deleting_and_absent_is_created: ("present", "deleting", false), None => "present running", ["create"]);
cell!(present_deleting_and_half_deleted_is_deleted_first: ("present", "deleting", false), Some("unhealthy") => "present running", ["delete", "create"]);
cell!(present_deleting_that_answers_is_kept: ("present", "deleting", false), Some("healthy") => "present running", ["create"]);
cell!(present_stopping_and_absent_is_created: ("present", "stopping", true), None => "present running", ["create"]);
cell!(stopped_running_is_stopped: ("stopped", "running", true), Some("healthy") => "stopped stopped", ["stop"]);
cell!(stopped_stopping_is_stopped_again: ("stopped", "stopping", true), Some("healthy") => "stopped stopped", ["stop"]);
cell!(stopped_failed_and_absent_is_settled: ("stopped", "failed", false), None => "stopped stopped", []);
cell!(stopped_unknown_that_answers_is_stopped: ("stopped", "unknown", false), Some("healthy") => "stopped stopped", ["stop"]);
cell!(stopped_deleting_and_absent_is_settled: ("stopped", "deleting", false), None => "stopped stopped", []);
cell!(absent_unknown_and_absent_is_only_removed: ("absent", "unknown", false), None => "gone", []);
cell!(absent_unknown_and_present_is_deleted: ("absent", "unknown", false), Some("healthy") => "gone", ["delete"]);
cell!(absent_creating_is_deleted: ("absent", "creating", false), Some("unhealthy") => "gone", ["delete"]);
cell!(absent_running_is_deleted: ("absent", "running", true), Some("healthy") => "gone", ["delete"]);
cell!(absent_updating_is_deleted: ("absent", "updating", false), Some("healthy") => "gone", ["delete"]);
cell!(absent_stopping_is_deleted: ("absent", "stopping", true), Some("stopped") => "gone", ["delete"]);
cell!(absent_stopped_is_deleted: ("absent", "stopped", true), Some("stopped") => "gone", ["delete"]);
cell!(absent_failed_is_deleted: ("absent", "failed", true), Some("unhealthy") => "gone", ["delete"]);
cell!(absent_deleting_and_absent_is_only_removed: ("absent", "deleting", false), None => "gone", []);
cell!(absent_deleting_and_present_is_deleted_again: ("absent", "deleting", false), Some("unhealthy") => "gone", ["delete"]);

#[tokio::test]
async fn present_creating_and_healthy_runs_and_is_applied_again() {
    let rig = rig().await;
    rig.host.set_cluster("dev", Some("healthy"));
    insert_left_row(&rig, "present", "creating", false).await;
    let settled = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running' AND observed_spec_hash = spec_hash";
    rig.sql.wait_text(settled, "1").await;
    assert_eq!(rig.host.started("dev"), ["create"]);
    let states = rig.sql.text("SELECT string_agg(to_state, ' ' ORDER BY id) FROM cluster_events WHERE kind = 'transition'")
        .await;
    assert_eq!(states, "running updating running");
}

#[tokio::test]
async fn a_changed_spec_a_stop_and_a_start_are_carried_out() {
    let rig = rig().await;
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", RUNNING).await;
    rig.sql.run("UPDATE clusters SET http_port = 18555").await;
    let applied = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running' AND observed_generation = 2";
    rig.sql.wait_text(applied, "1").await;
    rig.sql
        .run("UPDATE clusters SET desired_state = 'stopped'")
        .await;
    rig.sql.wait_state("dev", "stopped stopped").await;
    rig.sql
        .run("UPDATE clusters SET desired_state = 'present'")
        .await;
    rig.sql.wait_state("dev", RUNNING).await;
    assert_eq!(
        rig.host.started("dev"),
        ["create", "create", "stop", "start"]
    );
    let states = rig.sql.text("SELECT string_agg(to_state, ' ' ORDER BY id) FROM cluster_events WHERE kind = 'transition'")
        .await;
    assert_eq!(
        states,
        "creating running updating running stopping stopped restarting running"
    );
    rig.host.assert_one_at_a_time();
}

#[tokio::test]
async fn paused_and_protected_rows_are_only_observed() {
    let rig = rig().await;
    rig.sql
        .run(
            "INSERT INTO clusters (name, provider, paused) VALUES ('paused-1', 'k3d', true);
             INSERT INTO clusters (name, provider) VALUES ('devops', 'k3d')",
        )
        .await;
    rig.host.set_cluster("devops", Some("healthy"));
    rig.sql.wait_state("devops", RUNNING).await;
    let why = "SELECT status_message FROM clusters WHERE name = 'paused-1'";
    rig.sql.wait_text(why, "the cluster does not exist").await;
    rig.sql.desire("paused-1", "absent").await;
    rig.sql
        .run("UPDATE clusters SET desired_state = 'present', http_port = 18999 WHERE name = 'paused-1'")
        .await;
    // Another cluster is created meanwhile, so there was time for a wrong action.
    rig.sql.declare("other").await;
    rig.sql.wait_state("other", RUNNING).await;
    assert_eq!(rig.host.started("paused-1"), Vec::<String>::new());
    assert_eq!(rig.host.started("devops"), Vec::<String>::new());
    rig.sql
        .run("UPDATE clusters SET paused = false WHERE name = 'paused-1'")
        .await;
    rig.sql.wait_state("paused-1", RUNNING).await;
}

/// Every pair of states with every cluster that the host may have, all at once: every
/// row converges.
#[tokio::test]
async fn every_pair_of_states_on_every_host_converges() {
    const DESIRED: [&str; 3] = ["present", "stopped", "absent"];
    const ACTUAL: [&str; 9] = [
        "unknown",
        "creating",
        "running",
        "restarting",
        "updating",
        "stopping",
        "stopped",
        "failed",
        "deleting",
    ];
    const ON_HOST: [Option<&str>; 4] = [None, Some("unhealthy"), Some("stopped"), Some("healthy")];
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    sql.run("ALTER TABLE clusters DISABLE TRIGGER USER").await;
    for (d, desired) in DESIRED.iter().enumerate() {
        for (a, actual) in ACTUAL.iter().enumerate() {
            for (h, cluster) in ON_HOST.iter().enumerate() {
                for applied in [false, true] {
                    let name = format!("c{d}{a}{h}{}", u8::from(applied));
                    host.set_cluster(&name, *cluster);
                    let hash = if applied { "spec_hash" } else { "NULL" };
                    sql.run(&format!(
                        "INSERT INTO clusters (name, provider, pf_port, http_port, https_port, desired_state, actual_state, observed_generation, driver)
                         VALUES ('{name}', 'k3d', 19000, 18080, 18443, '{desired}', '{actual}', 1, 'script');
                         UPDATE clusters SET observed_spec_hash = {hash} WHERE name = '{name}'"
                    )).await;
                }
            }
        }
    }
    sql.run("ALTER TABLE clusters ENABLE TRIGGER USER").await;
    // At first every observation fails: nothing is repaired or removed.
    host.control("exists", "exit 7");
    host.control("probe", "exit 1");
    let builder = Daemon::builder(&database.url(), &host)
        .set("KINDLER_CONCURRENCY", "64")
        .set("KINDLER_DELETE_CAP", "0");
    let _daemon = builder.start().await;
    let observed =
        "SELECT (count(*) >= 100)::text FROM clusters WHERE last_reconciled_at IS NOT NULL";
    sql.wait_text(observed, "true").await;
    let removed = "SELECT count(*)::text FROM cluster_events WHERE kind = 'removed'";
    assert_eq!(sql.text(removed).await, "0");

    host.release("exists");
    host.release("probe");
    let unsettled = "SELECT coalesce(string_agg(name || ' ' || desired_state || ' ' || actual_state, ', '), '') FROM clusters
        WHERE NOT (desired_state = 'present' AND actual_state = 'running' AND observed_spec_hash = spec_hash
                   OR desired_state = 'stopped' AND actual_state = 'stopped')";
    eventually(
        std::time::Duration::from_secs(60),
        "every row settled",
        || async { sql.text(unsettled).await.is_empty() },
    )
    .await;
    for (d, desired) in DESIRED.iter().enumerate() {
        let mut found = std::collections::BTreeSet::new();
        for a in 0..ACTUAL.len() {
            for h in 0..ON_HOST.len() {
                for applied in 0..2 {
                    found.insert(host.cluster(&format!("c{d}{a}{h}{applied}")));
                }
            }
        }
        let healthy = Some("healthy".to_owned());
        match *desired {
            "present" => assert_eq!(found, [healthy].into()),
            "stopped" => assert!(!found.contains(&healthy), "{found:?}"),
            _ => assert_eq!(found, [None].into()),
        }
    }
    host.assert_one_at_a_time();
}
