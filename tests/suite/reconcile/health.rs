//! Health checks: three results, three failures before a repair.

use super::rig;
use crate::kit::{Sql, TIMEOUT, eventually};

#[tokio::test]
async fn a_dead_cluster_is_repaired_after_exactly_three_failures() {
    let rig = rig().await;
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", "present running").await;
    rig.host.set_cluster("dev", Some("unhealthy"));
    rig.host.wait_started("dev", &["create", "create"]).await;
    rig.sql.wait_state("dev", "present running").await;
    let reasons = rig
        .sql
        .text(
            "SELECT string_agg(coalesce(reason, kind), ' ' ORDER BY id) FROM cluster_events
             WHERE id >= (SELECT min(id) FROM cluster_events WHERE reason = 'ProbeFailed')
               AND id <= (SELECT max(id) FROM cluster_events WHERE reason = 'Created')",
        )
        .await;
    assert_eq!(
        reasons,
        "ProbeFailed ProbeFailed HealthLost Creating Created"
    );
    let why = "SELECT message FROM cluster_events WHERE reason = 'HealthLost'";
    assert!(
        rig.sql
            .text(why)
            .await
            .starts_with("3 probes failed in a row"),
        "{}",
        rig.sql.text(why).await
    );
}

#[tokio::test]
async fn one_or_two_failed_probes_change_nothing() {
    let rig = rig().await;
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", "present running").await;
    // Two failures, then a success: the count starts again each time.
    rig.host.control(
        "probe",
        r#"n=$(cat "$here/live/n" 2>/dev/null || echo 0); n=$((n + 1)); echo $n > "$here/live/n"
           [ $((n % 3)) -eq 0 ] || { echo flapping; exit 1; }"#,
    );
    let flapped = "SELECT count(*)::text FROM cluster_events WHERE reason = 'ProbeFailed'";
    eventually(TIMEOUT, "six failed probes", || async {
        rig.sql.text(flapped).await.parse::<u32>().unwrap() >= 6
    })
    .await;
    rig.host.release("probe");
    assert_eq!(rig.host.started("dev"), ["create"]);
    assert_eq!(rig.sql.state("dev").await, "present running");
}

#[tokio::test]
async fn a_failed_observation_does_not_count_as_absence() {
    let rig = rig().await;
    rig.sql.declare("dev").await;
    rig.sql.declare("leaving").await;
    rig.sql.wait_state("dev", "present running").await;
    rig.sql.wait_state("leaving", "present running").await;
    // The container runtime is down: nothing can be observed.
    rig.host.control("probe", "echo cannot connect; exit 1");
    rig.host.control("exists", "echo cannot connect; exit 7");
    let unknown = "SELECT count(*)::text FROM clusters WHERE status_reason = 'ObservationFailed'";
    rig.sql.wait_text(unknown, "2").await;
    // Also a desired deletion is not complete before it was observed.
    rig.host.control("delete", "echo refused; exit 1");
    rig.sql.desire("leaving", "absent").await;
    rig.sql.wait_state("leaving", "absent failed").await;
    let error = rig
        .sql
        .text("SELECT reconcile_error FROM clusters WHERE name = 'leaving'")
        .await;
    assert!(error.contains("cannot be observed"), "{error}");
    assert_eq!(rig.sql.state("dev").await, "present running");
    assert_eq!(
        rig.host.started("dev"),
        ["create"],
        "a failed observation must not cause a create"
    );
    for control in ["probe", "exists", "delete"] {
        rig.host.release(control);
    }
    rig.sql.wait_state("leaving", "gone").await;
    let healthy = "SELECT status_reason FROM clusters WHERE name = 'dev'";
    rig.sql.wait_text(healthy, "Healthy").await;
}

/// The probe is a wrapper whose program is missing, or kubectl has no context any more.
#[tokio::test]
async fn a_probe_that_cannot_run_causes_no_repair() {
    let rig = rig().await;
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", "present running").await;
    let checks = "SELECT (last_reconciled_at > now() - interval '1 second')::text FROM clusters";
    for (probe, words) in [
        ("exit 126", "cannot be executed"),
        ("exit 127", "does not exist"),
        (
            "echo 'probe.sh: line 3: kubectl: command not found' >&2; exit 1",
            "kubectl: command not found",
        ),
        (
            "echo 'error: context \"k3d-dev\" does not exist' >&2; exit 1",
            "context \"k3d-dev\" does not exist",
        ),
    ] {
        rig.host.control("probe", probe);
        let told = format!(
            "SELECT count(*)::text FROM clusters WHERE status_reason = 'ObservationFailed'
               AND status_message LIKE 'the health check could not run: %{words}; check the daemon''s PATH%'"
        );
        rig.sql.wait_text(&told, "1").await;
    }
    // Longer than three probes.
    rig.daemon.full_passes(2).await;
    assert_eq!(rig.sql.text(checks).await, "true");
    assert_eq!(rig.host.started("dev"), ["create"]);
    let row = "SELECT actual_state || ' ' || health_failures FROM clusters";
    assert_eq!(rig.sql.text(row).await, "running 0");
    rig.host.release("probe");
    let healthy = "SELECT status_reason FROM clusters WHERE name = 'dev'";
    rig.sql.wait_text(healthy, "Healthy").await;
}

/// A create that succeeds is not repeated because it cannot be verified.
#[tokio::test]
async fn an_unverified_create_runs_once_until_the_probe_works() {
    let rig = rig().await;
    rig.host.control("probe", "exit 127");
    rig.sql.declare("dev").await;
    let waits = "SELECT actual_state || ' ' || status_reason FROM clusters";
    rig.sql.wait_text(waits, "failed ObservationFailed").await;
    rig.daemon.full_passes(2).await;
    assert_eq!(rig.host.started("dev"), ["create"]);
    rig.host.release("probe");
    rig.sql
        .run("UPDATE clusters SET retry_requested_at = clock_timestamp()")
        .await;
    rig.sql.wait_state("dev", "present running").await;
}

/// A restart of the container runtime stops clusters and changes their addresses.
#[tokio::test]
async fn a_stopped_cluster_is_repaired_in_place_at_any_address() {
    let rig = rig().await;
    // The commands of this host, like kubectl, cannot distinguish a stopped cluster
    // from an unhealthy one; only the provider's list can. So a stopped cluster fails
    // its probes, and the repair is a create, which is idempotent.
    let found_at = |address: &str| {
        let update = format!("UPDATE clusters SET server_ip = '{address}' WHERE name = '$name'");
        let script = format!(
            "psql -qX '{}' -c \"{update}\" || exit 9",
            rig.database.url()
        );
        rig.host.control("create", &script);
    };
    found_at("10.0.0.7");
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", "present running").await;
    found_at("10.0.0.8");
    rig.host.set_cluster("dev", Some("stopped"));
    eventually(TIMEOUT, "the repair", || async {
        rig.host.cluster("dev").as_deref() == Some("healthy")
    })
    .await;
    rig.sql.wait_state("dev", "present running").await;
    rig.daemon.full_passes(2).await;
    assert_eq!(rig.host.started("dev"), ["create", "create"]);
    let row = "SELECT concat_ws(' ', server_ip, generation, actual_state) FROM clusters";
    assert_eq!(rig.sql.text(row).await, "10.0.0.8 1 running");
}
