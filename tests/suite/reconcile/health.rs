//! Health checks: three results, three failures before a repair.

use super::rig;
use crate::kit::{Sql, TIMEOUT, eventually, kindler_output};

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
               AND id <= (SELECT max(id) FROM cluster_events WHERE reason = 'Repaired')",
        )
        .await;
    assert_eq!(
        reasons,
        "ProbeFailed ProbeFailed HealthLost Repairing Repaired"
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
async fn a_repair_is_shown_as_one_and_not_as_a_create() {
    let rig = rig().await;
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", "present running").await;
    rig.host.control("dev.create", "sleep 600");
    rig.host.set_cluster("dev", Some("unhealthy"));
    rig.sql.wait_state("dev", "present restarting").await;
    let row = rig
        .sql
        .text("SELECT status_reason || ' ' || status_message FROM clusters")
        .await;
    assert!(
        row.starts_with("Repairing repairing: 3 probes failed in a row: probe.sh exited"),
        "{row}"
    );
    let command = |arguments: &[&str]| kindler_output(&rig.database.url(), &rig.host, arguments);
    let (list, _) = command(&["list"]);
    assert!(
        list.contains("restarting") && list.contains("repairing: 3 probes failed"),
        "{list}"
    );
    let (status, code) = command(&["status"]);
    assert!(
        status.contains("repairing   dev: repairing: 3 probes failed"),
        "{status}"
    );
    assert_eq!(code, Some(1));
    let metrics = rig.daemon.get("/metrics").await.unwrap().1;
    for line in [
        "kindler_cluster_status_phase{name=\"dev\",phase=\"restarting\"} 1",
        "kindler_cluster_status_reason{name=\"dev\",reason=\"Repairing\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing");
    }
    let log = rig.daemon.log();
    let warned = log.lines().any(|line| {
        line.contains("WARN")
            && line.contains("the cluster is lost; repairing it")
            && line.contains("because=\"3 probes failed in a row: ")
    });
    assert!(warned, "{log}");
}

#[tokio::test]
async fn a_flapping_cluster_is_one_event_a_condition_and_a_metric() {
    let rig = rig().await;
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", "present running").await;
    rig.host.fail_every_second_probe();
    rig.sql
        .wait_text("SELECT (flaps >= 8)::text FROM clusters", "true")
        .await;
    let events = "SELECT string_agg(reason, ' ' ORDER BY id) FROM cluster_events
        WHERE reason IN ('ProbeFailed', 'Healthy', 'Flapping')";
    assert_eq!(
        rig.sql.text(events).await,
        "ProbeFailed Healthy ProbeFailed Healthy ProbeFailed Flapping"
    );
    let message = rig.sql.text("SELECT status_message FROM clusters").await;
    assert!(message.contains("; flapping: "), "{message}");
    let metrics = rig.daemon.get("/metrics").await.unwrap().1;
    let condition =
        "kindler_cluster_status_condition{name=\"dev\",type=\"Flapping\",status=\"true\"} 1";
    assert!(metrics.contains(condition), "{metrics}");
    assert!(metrics.contains("kindler_cluster_flaps{name=\"dev\"} "));
    let (status, code) = kindler_output(&rig.database.url(), &rig.host, &["status"]);
    assert!(status.contains("flapping    dev: "), "{status}");
    assert_eq!((code, rig.host.started("dev").len()), (Some(1), 1));
}

/// Attempts have the same number in the message and beside the event.
#[tokio::test]
async fn attempts_are_numbered_alike_in_tag_and_text() {
    let rig = rig().await;
    rig.host.control("create", "echo no space; exit 3");
    rig.sql.declare("dev").await;
    let third =
        "SELECT count(*)::text FROM cluster_events WHERE message LIKE 'create started, attempt 3%'";
    rig.sql.wait_text(third, "1").await;
    let events = "SELECT string_agg(reason || ' ' || attempt, ', ' ORDER BY id) FROM (
        SELECT * FROM cluster_events WHERE reason IS NOT NULL ORDER BY id LIMIT 5) e";
    assert_eq!(
        rig.sql.text(events).await,
        "Creating 1, CreateFailed 1, Creating 2, CreateFailed 2, Creating 3"
    );
    let retry = rig
        .sql
        .text("SELECT message FROM cluster_events WHERE message LIKE 'create started, attempt 3%'")
        .await;
    assert!(
        retry.contains("; the last attempt failed: create.sh exited with code 3"),
        "{retry}"
    );
    let (events, _) = kindler_output(&rig.database.url(), &rig.host, &["events", "dev"]);
    assert!(events.contains("(attempt 2)"), "{events}");
    rig.sql.run("UPDATE clusters SET paused = true").await;
    let paused = "SELECT (status_reason = 'Paused' AND actual_state = 'failed'
        AND status_message LIKE '%; the last attempt failed: create.sh exited with code 3%')::text FROM clusters";
    rig.sql.wait_text(paused, "true").await;
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
    let log = rig.daemon.log();
    let warned = log.matches("the cluster cannot be observed").count();
    // Of each cause, not of each probe.
    assert!((1..=4).contains(&warned), "{log}");
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
