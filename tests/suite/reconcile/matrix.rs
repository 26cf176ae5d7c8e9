//! Each row of the state matrix once, from a row that a dead owner may have
//! left, on a host where the cluster is as the row or as the crash left it.

use super::{Scene, scene};

/// A row in some state, as an owner that died may have left it. `applied` says
/// whether a command had ended well.
async fn left_behind(scene: &Scene, desired: &str, actual: &str, applied: bool) {
    let hash = if applied { "spec_hash" } else { "NULL" };
    scene
        .run(&format!(
            "BEGIN; ALTER TABLE clusters DISABLE TRIGGER USER;
             INSERT INTO clusters (name, provider, desired_state, actual_state, observed_generation)
             VALUES ('dev', 'k3d', '{desired}', '{actual}', 1);
             UPDATE clusters SET observed_spec_hash = {hash};
             ALTER TABLE clusters ENABLE TRIGGER USER; COMMIT"
        ))
        .await;
}

/// Leaves a row behind, waits until it is as wanted, and returns what was run.
async fn converges(
    (desired, actual, applied): (&str, &str, bool),
    world: Option<&str>,
    end: &str,
) -> Vec<String> {
    let scene = scene().await;
    scene.host.set_world("dev", world);
    left_behind(&scene, desired, actual, applied).await;
    scene.until("dev", end).await;
    match end {
        "gone" => assert_eq!(scene.host.world("dev"), None),
        "stopped stopped" => assert_ne!(scene.host.world("dev").as_deref(), Some("healthy")),
        _ => assert_eq!(scene.host.world("dev").as_deref(), Some("healthy")),
    }
    scene.host.assert_one_at_a_time();
    scene.host.started("dev")
}

macro_rules! cell {
    ($test:ident: $row:expr, $world:expr => $end:literal, $verbs:expr) => {
        #[tokio::test]
        async fn $test() {
            let verbs: [&str; _] = $verbs;
            assert_eq!(converges($row, $world, $end).await, verbs);
        }
    };
}

const RUNNING: &str = "present running";

cell!(present_unknown_is_created: ("present", "unknown", false), None => "present running", ["create"]);
cell!(present_failed_and_absent_is_created: ("present", "failed", false), None => "present running", ["create"]);
cell!(present_failed_and_ill_is_repaired: ("present", "failed", true), Some("ill") => "present running", ["create"]);
cell!(present_failed_and_well_again_is_left_alone: ("present", "failed", true), Some("healthy") => "present running", []);
cell!(present_creating_and_absent_is_created_again: ("present", "creating", false), None => "present running", ["create"]);
cell!(present_creating_and_half_made_is_created_again: ("present", "creating", false), Some("ill") => "present running", ["create"]);
cell!(present_updating_is_applied_again: ("present", "updating", false), Some("healthy") => "present running", ["create"]);
cell!(present_deleting_and_gone_is_created: ("present", "deleting", false), None => "present running", ["create"]);
cell!(present_deleting_half_deleted_is_finished_first: ("present", "deleting", false), Some("ill") => "present running", ["delete", "create"]);
cell!(present_deleting_that_answers_is_kept: ("present", "deleting", false), Some("healthy") => "present running", ["create"]);
cell!(present_stopping_that_is_gone_is_created: ("present", "stopping", true), None => "present running", ["create"]);
cell!(stopped_running_is_stopped: ("stopped", "running", true), Some("healthy") => "stopped stopped", ["stop"]);
cell!(stopped_stopping_is_stopped_again: ("stopped", "stopping", true), Some("healthy") => "stopped stopped", ["stop"]);
cell!(stopped_failed_and_absent_rests: ("stopped", "failed", false), None => "stopped stopped", []);
cell!(stopped_unknown_that_answers_is_stopped: ("stopped", "unknown", false), Some("healthy") => "stopped stopped", ["stop"]);
cell!(stopped_deleting_that_is_gone_rests: ("stopped", "deleting", false), None => "stopped stopped", []);
cell!(absent_unknown_and_absent_only_loses_its_row: ("absent", "unknown", false), None => "gone", []);
cell!(absent_unknown_and_present_is_deleted: ("absent", "unknown", false), Some("healthy") => "gone", ["delete"]);
cell!(absent_creating_is_deleted: ("absent", "creating", false), Some("ill") => "gone", ["delete"]);
cell!(absent_running_is_deleted: ("absent", "running", true), Some("healthy") => "gone", ["delete"]);
cell!(absent_updating_is_deleted: ("absent", "updating", false), Some("healthy") => "gone", ["delete"]);
cell!(absent_stopping_is_deleted: ("absent", "stopping", true), Some("stopped") => "gone", ["delete"]);
cell!(absent_stopped_is_deleted: ("absent", "stopped", true), Some("stopped") => "gone", ["delete"]);
cell!(absent_failed_is_deleted: ("absent", "failed", true), Some("ill") => "gone", ["delete"]);
cell!(absent_deleting_and_gone_only_loses_its_row: ("absent", "deleting", false), None => "gone", []);
cell!(absent_deleting_and_present_is_deleted_again: ("absent", "deleting", false), Some("ill") => "gone", ["delete"]);

#[tokio::test]
async fn present_creating_that_answers_runs_and_is_applied_again() {
    let scene = scene().await;
    scene.host.set_world("dev", Some("healthy"));
    left_behind(&scene, "present", "creating", false).await;
    let settled = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running' AND observed_spec_hash = spec_hash";
    crate::kit::eventually(super::SOON, "dev to be applied", || async {
        scene.text(settled).await == "1"
    })
    .await;
    assert_eq!(scene.host.started("dev"), ["create"]);
    let states = scene
        .text("SELECT string_agg(to_state, ' ' ORDER BY id) FROM cluster_events WHERE kind = 'transition'")
        .await;
    assert_eq!(states, "running updating running");
}

#[tokio::test]
async fn a_changed_spec_is_applied_and_a_stop_and_a_start_are_done() {
    let scene = scene().await;
    scene.run(&super::insert("dev")).await;
    scene.until("dev", RUNNING).await;
    scene.run("UPDATE clusters SET http_port = 18555").await;
    let applied = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running' AND observed_generation = 2";
    crate::kit::eventually(super::SOON, "the update", || async {
        scene.text(applied).await == "1"
    })
    .await;
    scene
        .run("UPDATE clusters SET desired_state = 'stopped'")
        .await;
    scene.until("dev", "stopped stopped").await;
    scene
        .run("UPDATE clusters SET desired_state = 'present'")
        .await;
    scene.until("dev", RUNNING).await;
    assert_eq!(
        scene.host.started("dev"),
        ["create", "create", "stop", "start"]
    );
    let states = scene
        .text("SELECT string_agg(to_state, ' ' ORDER BY id) FROM cluster_events WHERE kind = 'transition'")
        .await;
    assert_eq!(
        states,
        "creating running updating running stopping stopped creating running"
    );
    scene.host.assert_one_at_a_time();
}

#[tokio::test]
async fn paused_and_protected_rows_are_shown_and_never_acted_on() {
    let scene = scene().await;
    scene
        .run(
            "INSERT INTO clusters (name, provider, paused) VALUES ('held', 'k3d', true);
             INSERT INTO clusters (name, provider) VALUES ('devops', 'k3d')",
        )
        .await;
    scene.host.set_world("devops", Some("healthy"));
    scene.until("devops", RUNNING).await;
    let why = "SELECT status_message FROM clusters WHERE name = 'held'";
    crate::kit::eventually(super::SOON, "held to be looked at", || async {
        scene.text(why).await == "the cluster does not exist"
    })
    .await;
    scene
        .run("UPDATE clusters SET desired_state = 'absent' WHERE name = 'held'")
        .await;
    scene
        .run("UPDATE clusters SET desired_state = 'present', http_port = 18999 WHERE name = 'held'")
        .await;
    // Another row goes all the way meanwhile, so there was time to go wrong.
    scene.run(&super::insert("other")).await;
    scene.until("other", RUNNING).await;
    assert_eq!(scene.host.started("held"), Vec::<String>::new());
    assert_eq!(scene.host.started("devops"), Vec::<String>::new());
    scene
        .run("UPDATE clusters SET paused = false WHERE name = 'held'")
        .await;
    scene.until("held", RUNNING).await;
}

/// Every pair of states beside everything that the host may hold, all at once:
/// no row is a dead end.
#[tokio::test]
async fn every_pair_of_states_beside_every_world_converges() {
    const DESIRED: [&str; 3] = ["present", "stopped", "absent"];
    const ACTUAL: [&str; 8] = [
        "unknown", "creating", "running", "updating", "stopping", "stopped", "failed", "deleting",
    ];
    const WORLDS: [Option<&str>; 4] = [None, Some("ill"), Some("stopped"), Some("healthy")];
    let (database, host) = (super::migrated().await, crate::kit::Host::new());
    let sql = database.connect().await;
    super::run(&sql, "ALTER TABLE clusters DISABLE TRIGGER USER").await;
    for (d, desired) in DESIRED.iter().enumerate() {
        for (a, actual) in ACTUAL.iter().enumerate() {
            for (w, world) in WORLDS.iter().enumerate() {
                for applied in [false, true] {
                    let name = format!("c{d}{a}{w}{}", u8::from(applied));
                    host.set_world(&name, *world);
                    let hash = if applied { "spec_hash" } else { "NULL" };
                    super::run(&sql, &format!(
                        "INSERT INTO clusters (name, provider, desired_state, actual_state, observed_generation)
                         VALUES ('{name}', 'k3d', '{desired}', '{actual}', 1);
                         UPDATE clusters SET observed_spec_hash = {hash} WHERE name = '{name}'"
                    )).await;
                }
            }
        }
    }
    super::run(&sql, "ALTER TABLE clusters ENABLE TRIGGER USER").await;
    // At first the host tells nothing: what is not known is neither repaired
    // nor removed, and no row is lost to it.
    host.control("exists", "exit 7");
    host.control("probe", "exit 1");
    let builder = crate::kit::Daemon::builder(&database.url(), &host)
        .set("KINDLER_CONCURRENCY", "64")
        .set("KINDLER_DELETE_CAP", "0");
    let daemon = builder.spawn();
    daemon.ready().await;
    let looked =
        "SELECT (count(*) >= 100)::text FROM clusters WHERE last_reconciled_at IS NOT NULL";
    crate::kit::eventually(super::SOON, "many rows to be looked at in vain", || async {
        super::text(&sql, looked).await == "true"
    })
    .await;
    let removed = "SELECT count(*)::text FROM cluster_events WHERE kind = 'removed'";
    assert_eq!(super::text(&sql, removed).await, "0");

    host.release("exists");
    host.release("probe");
    let unsettled = "SELECT coalesce(string_agg(name || ' ' || desired_state || ' ' || actual_state, ', '), '') FROM clusters
        WHERE NOT (desired_state = 'present' AND actual_state = 'running' AND observed_spec_hash = spec_hash
                   OR desired_state = 'stopped' AND actual_state = 'stopped')";
    crate::kit::eventually(
        std::time::Duration::from_secs(60),
        "no dead end",
        || async { super::text(&sql, unsettled).await.is_empty() },
    )
    .await;
    for (d, desired) in DESIRED.iter().enumerate() {
        let mut worlds = std::collections::BTreeSet::new();
        for a in 0..ACTUAL.len() {
            for w in 0..WORLDS.len() {
                for applied in 0..2 {
                    worlds.insert(host.world(&format!("c{d}{a}{w}{applied}")));
                }
            }
        }
        let healthy = Some("healthy".to_owned());
        match *desired {
            "present" => assert_eq!(worlds, [healthy].into()),
            "stopped" => assert!(!worlds.contains(&healthy), "{worlds:?}"),
            _ => assert_eq!(worlds, [None].into()),
        }
    }
    host.assert_one_at_a_time();
}
