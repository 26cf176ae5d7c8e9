//! A change of mind while a command runs is acted on at once.

use std::time::{Duration, Instant};

use super::{SOON, insert, scene};
use crate::kit::eventually;

#[tokio::test]
async fn deleting_a_cluster_that_is_being_created_cancels_the_command_tree() {
    let scene = scene().await;
    // A child in a session of its own, which a group kill would miss, and a
    // command that ignores TERM.
    scene.host.control(
        "dev.create",
        r#"setsid sh -c 'echo $$ > "$0/live/child"; sleep 600' "$here" &
           trap '' TERM
           sleep 600"#,
    );
    scene.run(&insert("dev")).await;
    let child = eventually(SOON, "the create to run", || async {
        let pid = std::fs::read_to_string(scene.host.path().join("live/child")).ok()?;
        pid.trim().parse::<i32>().ok()
    })
    .await;
    let began = Instant::now();
    scene
        .run("UPDATE clusters SET desired_state = 'absent'")
        .await;
    scene.until("dev", "gone").await;
    // The grace of 2 s, then KILL, then the delete.
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    assert!(
        !std::path::Path::new(&format!("/proc/{child}")).exists(),
        "the child lives"
    );
    assert_eq!(scene.host.live_commands(), Vec::<i32>::new());
    assert_eq!(scene.host.started("dev"), ["create", "delete"]);
    scene.host.assert_one_at_a_time();
    let failed = scene
        .text("SELECT count(*)::text FROM cluster_events WHERE to_state = 'failed'")
        .await;
    assert_eq!(failed, "0", "a withdrawn order is no failure");
}

#[tokio::test]
async fn a_lost_ring_is_heard_with_the_next_renewal() {
    let scene = scene().await;
    scene.host.control("dev.create", "sleep 600");
    scene.run(&insert("dev")).await;
    scene.until("dev", "present creating").await;
    scene.run("ALTER TABLE clusters DISABLE TRIGGER USER; UPDATE clusters SET desired_state = 'absent'; ALTER TABLE clusters ENABLE TRIGGER USER").await;
    scene.until("dev", "gone").await;
}

#[tokio::test]
async fn a_withdrawn_delete_is_finished_and_the_cluster_made_anew() {
    let scene = scene().await;
    scene.run(&insert("dev")).await;
    scene.until("dev", "present running").await;
    scene.host.control(
        "dev.delete",
        r#"while [ ! -e "$here/live/go" ]; do sleep 0.02; done"#,
    );
    scene
        .run("UPDATE clusters SET desired_state = 'absent'")
        .await;
    scene.until("dev", "absent deleting").await;
    eventually(SOON, "the delete to run", || async {
        scene.host.started("dev").len() == 2
    })
    .await;
    scene
        .run("UPDATE clusters SET desired_state = 'present'")
        .await;
    std::fs::write(scene.host.path().join("live/go"), "").unwrap();
    scene.until("dev", "present running").await;
    assert_eq!(scene.host.started("dev"), ["create", "delete", "create"]);
    scene.host.assert_one_at_a_time();
}

#[tokio::test]
async fn a_spec_that_changes_during_a_create_is_applied_when_it_has_ended() {
    let scene = scene().await;
    scene.host.control(
        "dev.create",
        r#"while [ ! -e "$here/live/go" ]; do sleep 0.02; done"#,
    );
    scene.run(&insert("dev")).await;
    eventually(SOON, "the create to run", || async {
        scene.host.started("dev").len() == 1
    })
    .await;
    scene.run("UPDATE clusters SET http_port = 18600").await;
    std::fs::write(scene.host.path().join("live/go"), "").unwrap();
    let applied = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running' AND observed_generation = 2 AND observed_spec_hash = spec_hash";
    eventually(SOON, "the second spec", || async {
        scene.text(applied).await == "1"
    })
    .await;
    let journal = scene.host.journal();
    let generations: Vec<i64> = journal
        .iter()
        .filter(|e| e.what == "start")
        .map(|e| e.generation)
        .collect();
    assert_eq!(generations, [1, 2]);
    assert!(
        journal.iter().filter(|e| e.what == "end").count() == 2,
        "the first was not cut short"
    );
}

#[tokio::test]
async fn random_changes_of_mind_end_right() {
    let scene = scene().await;
    scene.host.control("create", "sleep 0.0$(( $$ % 9 ))");
    scene.host.control("delete", "sleep 0.0$(( $$ % 9 ))");
    let names: Vec<String> = (0..10).map(|n| format!("flip-{n}")).collect();
    for round in 0..6 {
        for (n, name) in names.iter().enumerate() {
            let wish = ["present", "absent", "stopped"][(round * 7 + n * 5) % 3];
            scene
                .run(&format!(
                    "INSERT INTO clusters (name, provider, desired_state) VALUES ('{name}', 'k3d', '{wish}')
                     ON CONFLICT (name) DO UPDATE SET desired_state = excluded.desired_state"
                ))
                .await;
        }
        // Somewhere within a command, not after it.
        let running = "SELECT count(*)::text FROM cluster_leases";
        eventually(SOON, "somebody to be at work", || async {
            scene.text(running).await != "0"
        })
        .await;
    }
    for (n, name) in names.iter().enumerate() {
        let wish = ["present", "absent"][n % 2];
        scene
            .run(&format!(
                "INSERT INTO clusters (name, provider, desired_state) VALUES ('{name}', 'k3d', '{wish}')
                 ON CONFLICT (name) DO UPDATE SET desired_state = excluded.desired_state"
            ))
            .await;
    }
    for (n, name) in names.iter().enumerate() {
        let (end, world) = [("present running", Some("healthy")), ("gone", None)][n % 2];
        scene.until(name, end).await;
        assert_eq!(scene.host.world(name).as_deref(), world, "{name}");
    }
    scene.host.assert_one_at_a_time();
    assert_eq!(scene.host.live_commands(), Vec::<i32>::new());
}

#[tokio::test]
async fn a_pause_that_comes_while_it_is_looked_at_saves_the_cluster() {
    let scene = scene().await;
    scene.host.set_world("dev", Some("healthy"));
    let (looking, go) = (
        scene.host.path().join("live/looking"),
        scene.host.path().join("live/go"),
    );
    scene.host.control(
        "probe",
        r#"touch "$here/live/looking"; while [ ! -e "$here/live/go" ]; do sleep 0.05; done"#,
    );
    scene
        .run("INSERT INTO clusters (name, provider, desired_state) VALUES ('dev', 'k3d', 'absent')")
        .await;
    eventually(SOON, "the look", || async { looking.exists() }).await;
    scene.run("UPDATE clusters SET paused = true").await;
    std::fs::write(go, "").unwrap();
    let reason = "SELECT status_reason FROM clusters";
    eventually(SOON, "the pause to be shown", || async {
        scene.text(reason).await == "Paused"
    })
    .await;
    scene.daemon.full_passes(2).await;
    assert_eq!(scene.host.started("dev"), Vec::<String>::new());
    assert_eq!(scene.state("dev").await, "absent running");
}
