//! Health checks: three-valued, patient, repairing.

use super::{SOON, insert, scene};
use crate::kit::eventually;

#[tokio::test]
async fn a_dead_cluster_is_repaired_after_three_failed_probes_and_not_before() {
    let scene = scene().await;
    scene.run(&insert("dev")).await;
    scene.until("dev", "present running").await;
    scene.host.set_world("dev", Some("ill"));
    eventually(SOON, "the repair", || async {
        scene.host.started("dev") == ["create", "create"]
    })
    .await;
    scene.until("dev", "present running").await;
    let books = scene
        .text(
            "SELECT string_agg(coalesce(reason, kind), ' ' ORDER BY id) FROM cluster_events
             WHERE id >= (SELECT min(id) FROM cluster_events WHERE reason = 'ProbeFailed')
               AND id <= (SELECT max(id) FROM cluster_events WHERE reason = 'Created')",
        )
        .await;
    assert_eq!(books, "ProbeFailed ProbeFailed HealthLost Creating Created");
    let why = "SELECT message FROM cluster_events WHERE reason = 'HealthLost'";
    assert!(
        scene
            .text(why)
            .await
            .starts_with("3 probes failed in a row"),
        "{}",
        scene.text(why).await
    );
}

#[tokio::test]
async fn one_or_two_failed_probes_change_nothing() {
    let scene = scene().await;
    scene.run(&insert("dev")).await;
    scene.until("dev", "present running").await;
    // Two failures, then well again; the count starts over each time.
    scene.host.control(
        "probe",
        r#"n=$(cat "$here/live/n" 2>/dev/null || echo 0); n=$((n + 1)); echo $n > "$here/live/n"
           [ $((n % 3)) -eq 0 ] || { echo flapping; exit 1; }"#,
    );
    let flapped = "SELECT count(*)::text FROM cluster_events WHERE reason = 'ProbeFailed'";
    eventually(SOON, "some flapping", || async {
        scene.text(flapped).await.parse::<u32>().unwrap() >= 6
    })
    .await;
    scene.host.release("probe");
    assert_eq!(scene.host.started("dev"), ["create"]);
    assert_eq!(scene.state("dev").await, "present running");
}

#[tokio::test]
async fn a_look_that_fails_is_not_an_absence() {
    let scene = scene().await;
    scene.run(&insert("dev")).await;
    scene.run(&insert("leaving")).await;
    scene.until("dev", "present running").await;
    scene.until("leaving", "present running").await;
    // The container runtime is down: nothing can be told of anything.
    scene.host.control("probe", "echo cannot connect; exit 1");
    scene.host.control("exists", "echo cannot connect; exit 7");
    let unknown = "SELECT count(*)::text FROM clusters WHERE status_reason = 'ObservationFailed'";
    eventually(SOON, "the ignorance to be shown", || async {
        scene.text(unknown).await == "2"
    })
    .await;
    // Even a wanted deletion is not believed before it was seen.
    scene.host.control("delete", "echo refused; exit 1");
    scene
        .run("UPDATE clusters SET desired_state = 'absent' WHERE name = 'leaving'")
        .await;
    scene.until("leaving", "absent failed").await;
    let error = scene
        .text("SELECT reconcile_error FROM clusters WHERE name = 'leaving'")
        .await;
    assert!(error.contains("cannot be observed"), "{error}");
    assert_eq!(scene.state("dev").await, "present running");
    assert_eq!(
        scene.host.started("dev"),
        ["create"],
        "nothing is recreated on ignorance"
    );
    for control in ["probe", "exists", "delete"] {
        scene.host.release(control);
    }
    scene.until("leaving", "gone").await;
    let healthy = "SELECT status_reason FROM clusters WHERE name = 'dev'";
    eventually(SOON, "dev to be seen again", || async {
        scene.text(healthy).await == "Healthy"
    })
    .await;
}

/// As after a restart of the container runtime, which stops clusters and gives
/// them other addresses.
#[tokio::test]
async fn what_only_stopped_is_repaired_in_place_wherever_it_comes_back() {
    let scene = scene().await;
    // This host's commands cannot tell stopped from ill, as kubectl cannot; the
    // provider's own list can. So stopped shows as failed probes, and the
    // repair is a create, which is idempotent.
    let found_at = |address: &str| {
        let told = format!("UPDATE clusters SET server_ip = '{address}' WHERE name = '$name'");
        let script = format!(
            "psql -qX '{}' -c \"{told}\" || exit 9",
            scene.database.url()
        );
        scene.host.control("create", &script);
    };
    found_at("10.0.0.7");
    scene.run(&insert("dev")).await;
    scene.until("dev", "present running").await;
    found_at("10.0.0.8");
    scene.host.set_world("dev", Some("stopped"));
    eventually(SOON, "the repair", || async {
        scene.host.world("dev").as_deref() == Some("healthy")
    })
    .await;
    scene.until("dev", "present running").await;
    scene.daemon.full_passes(2).await;
    assert_eq!(scene.host.started("dev"), ["create", "create"]);
    let row = "SELECT concat_ws(' ', server_ip, generation, actual_state) FROM clusters";
    assert_eq!(scene.text(row).await, "10.0.0.8 1 running");
}
