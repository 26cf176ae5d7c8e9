//! Every metric family that Kindler exports, except those of [`crate::core::metrics`].

use std::fmt::Write;

use crate::core::metrics::{self as core_metrics, FamilyGroup, Kind, families};

/// Cluster creation takes minutes; controller-runtime's buckets end at 60 s.
const ACTION: Kind = Kind::Histogram(&[
    1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 900.0, 1800.0,
]);
/// From the declaration to a healthy cluster, with queueing and retries.
const READY: Kind = Kind::Histogram(&[
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 900.0,
    1800.0, 3600.0,
]);
/// Latency of HTTP responses.
const HTTP: Kind = Kind::Histogram(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
]);
const COUNTER: Kind = Kind::Counter;
const GAUGE: Kind = Kind::Gauge;

families! {
    "Actions", "Actions on clusters: create, update, start, stop, delete.":
    ACTION_TOTAL COUNTER "kindler_action_total" ["action" "result"]
        "Actions on clusters, by result: success, failure, interrupted (the desired state changed, the lease was lost or the process ended).",
        "Failures: `kindler status`, then `kindler logs NAME`.";
    ACTION_DURATION_SECONDS ACTION "kindler_action_duration_seconds" ["action"]
        "Duration of actions on clusters, including verification.",
        "Rising: the host or the network is slow, or images are pulled again.";
    READY_SECONDS READY "kindler_ready_seconds" []
        "Time from the declaration of a generation until the cluster runs it and is healthy; observed by the replica that recorded it.",
        "Rising: compare with kindler_action_duration_seconds (the command) and workqueue_queue_duration_seconds (waiting).";
    DRIFT_TOTAL COUNTER "kindler_drift_total" ["reason"]
        "Running clusters that were observed unhealthy, stopped or gone, and are repaired.",
        "Clusters are changed outside Kindler, or the host has a fault.";
    CHANGES_DEFERRED_TOTAL COUNTER "kindler_changes_deferred_total" []
        "Specs that changed while the cluster's command ran, more than once in a row, and are applied after a pause.",
        "Rising: a command writes another value into its own row each time it runs. `kindler list` shows `ChangeDeferred`, `kindler events NAME` what changes and which role does it.";

    "Process and its connections", "Values of one process: each instance has its own.":
    BUILD_INFO GAUGE "kindler_build_info" ["version"]
        "Version of the running release; always 1.", "";
    DB_UP GAUGE "kindler_db_up" []
        "1 if the database responded during this scrape.",
        "0: `curl HOST/readyz` shows the reason. Running clusters keep running; nothing is reconciled meanwhile.";
    DB_ANSWERS GAUGE "kindler_db_answers" ["result"]
        "1 for how the database answered this scrape: ok, error (it refuses what Kindler reads), none (it cannot be reached, or not in time); 0 for the others.",
        "error: `kindler status` shows the database's message. none: as for kindler_db_up.";
    STATE_FOLDER_FREE_BYTES GAUGE "kindler_state_folder_free_bytes" []
        "Free space of the file system of KINDLER_STATE_DIR.",
        "Near 0: logs of commands are lost, and no sandbox cluster can be created.";
    STATE_FOLDER_SIZE_BYTES GAUGE "kindler_state_folder_size_bytes" []
        "Size of the file system of KINDLER_STATE_DIR.", "";
    FINDING GAUGE "kindler_finding" ["code" "severity"]
        "1 while this process finds something wrong around it: schema, privileges, clock, state folder, other replicas.",
        "1: `kindler status` and `/readyz` show the cause and the next step.";
    CLOCK_OFFSET_SECONDS GAUGE "kindler_clock_offset_seconds" []
        "How far the database's clock is ahead of this host's, read at each heartbeat; negative: behind.",
        "Beyond 5 s either way: synchronize the clocks of both hosts.";
    STATE_FOLDER_USABLE GAUGE "kindler_state_folder_usable" []
        "1 if the last heartbeat wrote, read and removed a file in the state folder within 2 s.",
        "0: `kindler status` shows why (StateFolder…). Clusters work, logs are lost, and a crashed daemon is replaced only when its leases expire.";
    SCRAPE_COMPLETE GAUGE "kindler_scrape_complete" []
        "1 if this scrape read everything in time.",
        "0 while kindler_db_up is 1: families that could not be read within 1.5 s are missing. Check the load of the database, or set KINDLER_METRICS_PER_CLUSTER=false.";
    DB_POOL_CONNECTIONS GAUGE "kindler_db_pool_connections" ["state"]
        "Connections of the pool that are in_use or idle, and calls waiting for one.",
        "waiting above 0 for long: the database is slow, or KINDLER_CONCURRENCY is higher than it allows.";
    LISTEN_CONNECTED GAUGE "kindler_listen_connected" []
        "1 while the listener receives notifications.",
        "0: only full passes find changes, up to KINDLER_RESYNC_INTERVAL later. `/readyz` shows the reason; the usual cause is a transaction pooler.";
    LISTEN_RECONNECTS_TOTAL COUNTER "kindler_listen_reconnects_total" []
        "Reconnects of the listener after a lost connection.",
        "Rising steadily: something between Kindler and the database closes connections.";
    STREAMS_OPEN GAUGE "kindler_streams_open" []
        "Open streams: pages, followed logs, WebSockets.", "";

    "HTTP", "Routes are templates (`/api/clusters/{name}`), never paths; a request that matches no route is served by the page and has the route `page`. A stream is counted when it opens; its duration is not observed.":
    HTTP_REQUESTS_TOTAL COUNTER "http_requests_total" ["method" "route" "code"]
        "HTTP responses.",
        "5xx: see the log. 401 and 403: a client uses a wrong token or a wrong host name.";
    HTTP_REQUEST_DURATION_SECONDS HTTP "http_request_duration_seconds" ["method" "route"]
        "Time from the request to the headers of its response.",
        "Slow reads: the database is slow. See kindler_db_pool_connections.";

    "Process", "The standard names of Prometheus client libraries.":
    PROCESS_CPU_SECONDS_TOTAL COUNTER "process_cpu_seconds_total" []
        "Total user and system CPU time spent in seconds.", "";
    PROCESS_OPEN_FDS GAUGE "process_open_fds" []
        "Number of open file descriptors.",
        "Near process_max_fds: `ls -l /proc/PID/fd` shows what is open.";
    PROCESS_MAX_FDS GAUGE "process_max_fds" []
        "Maximum number of open file descriptors.", "";
    PROCESS_VIRTUAL_MEMORY_BYTES GAUGE "process_virtual_memory_bytes" []
        "Virtual memory size in bytes.", "";
    PROCESS_RESIDENT_MEMORY_BYTES GAUGE "process_resident_memory_bytes" []
        "Resident memory size in bytes.",
        "Rising for days: a memory leak; report it.";
    PROCESS_START_TIME_SECONDS GAUGE "process_start_time_seconds" []
        "Start time of the process since unix epoch in seconds.",
        "Recent again and again: the process is restarted; see the logs of its supervisor.";
    PROCESS_THREADS GAUGE "process_threads" []
        "Number of OS threads in the process.", "";

    "Fleet", "Read from the database at each scrape, so every instance on one database exports the same values: aggregate with `max by (...)`, never with `sum` over instances. Absent while the database does not respond.":
    REPLICAS GAUGE "kindler_replicas" ["reconciles"]
        "Daemons with a recent heartbeat; `false`: on standby, because the schema is newer than their release.",
        "`true` at 0: nothing is reconciled. Start a daemon, or finish the upgrade.";
    CLUSTERS GAUGE "kindler_clusters" ["desired" "actual"]
        "Clusters by desired and actual state.",
        "`kindler list` names them.";
    DELETIONS_DEFERRED GAUGE "kindler_deletions_deferred" []
        "Deletions that are deferred by KINDLER_DELETE_CAP.",
        "If the deletions are not intended: declare the clusters present again, or `kindler pause` them.";
    DELETIONS_HELD GAUGE "kindler_deletions_held" []
        "Deprecated: use kindler_deletions_deferred.", "";
    REPAIRS_DEFERRED GAUGE "kindler_repairs_deferred" []
        "Repairs that are deferred because most clusters are unhealthy.",
        "Check the host: is the container runtime up?";
    REPAIRS_HELD GAUGE "kindler_repairs_held" []
        "Deprecated: use kindler_repairs_deferred.", "";
    CLUSTERS_UNSELECTED GAUGE "kindler_clusters_unselected" []
        "Clusters that no daemon works on, because no KINDLER_SELECTOR selects them; without paused and protected ones.",
        "`kindler status` names them. Label them, or start a daemon whose selector matches.";
    DB_NOTIFICATION_QUEUE_USAGE_RATIO GAUGE "kindler_db_notification_queue_usage_ratio" []
        "Used share of the server's notification queue, 0 to 1.",
        "From 0.9 on Kindler sends no notifications; at 1 every other commit that notifies fails. A session listens inside a transaction that never ends, or its client is stopped: find it in pg_stat_activity.";
    DB_NOTIFICATION_QUEUE_BLOCKED_SINCE GAUGE "kindler_db_notification_queue_blocked_since_timestamp_seconds" ["pid" "application"]
        "The session that most likely blocks the notification queue, and since when; only while a tenth of the queue is used.",
        "End the session or its transaction; the runbook has the statement.";

    REPLICA_INFO GAUGE "kindler_replica_info" ["owner" "host" "version" "selector" "reconciles"]
        "Daemons with a recent heartbeat; always 1.",
        "Two versions or selectors at once: an upgrade that is not finished, or several placements.";
    REPLICA_SETTING_INFO GAUGE "kindler_replica_setting_info" ["owner" "host" "setting" "value"]
        "Settings of each daemon that are no secrets; always 1.",
        "One setting with two values: the daemons work differently on the same clusters.";
    TABLE_BYTES GAUGE "kindler_table_bytes" ["table"]
        "Size of each of Kindler's tables with its indexes.",
        "Growing without an end: a table that is not vacuumed, because of a transaction that never ends.";
    CLUSTER_QUEUE_POSITION GAUGE "kindler_cluster_queue_position" ["name"]
        "Position of clusters that are due and that no daemon works on, in the order in which they became due; the first 50.",
        "For long: all workers are busy; see kindler_active_workers.";
    CLUSTER_STEP_FAILED GAUGE "kindler_cluster_step_failed" ["name" "step"]
        "1 for each failed step of a cluster; at most 200.",
        "`kindler get NAME` shows why it failed and its next attempt.";
    CLUSTER_RECENT_DRIFTS GAUGE "kindler_cluster_recent_drifts" ["name"]
        "How often a running cluster was found failed within the last hour, from its events; at most 200 clusters.",
        "`kindler events NAME` shows when and why.";
    STEP_STATE GAUGE "kindler_step_state" ["driver" "step" "state"]
        "Clusters by the recorded state of each step of their driver.",
        "failed, or running for long: `kindler list` names the clusters, `kindler get NAME` shows why the step failed and its next attempt.";

    "Failing clusters", "Part of the fleet. Always exported, for the 200 clusters with the most consecutive failures, with those in repair or with flaps.":
    CLUSTER_CONSECUTIVE_FAILURES GAUGE "kindler_cluster_consecutive_failures" ["name"]
        "Consecutive failed attempts.",
        "`kindler get NAME` and `kindler logs NAME`.";
    CLUSTER_FLAPS GAUGE "kindler_cluster_flaps" ["name"]
        "Recoveries and losses of the running cluster, each within an hour of the one before; absent without any.",
        "From 3 on it flaps: `kindler events NAME`, then look at what its probe says and at the load of the host.";
    CLUSTER_STATUS_REASON GAUGE "kindler_cluster_status_reason" ["name" "reason"]
        "1 for the current reason of the row: one of a closed list, never an error text.", "";
    CLUSTER_NEXT_RETRY_TIMESTAMP_SECONDS GAUGE "kindler_cluster_next_retry_timestamp_seconds" ["name"]
        "Time of the next attempt, in Unix time; absent while an attempt runs or is due now.",
        "`kindler retry NAME` retries at once.";

    "Each cluster", "Part of the fleet. Off with KINDLER_METRICS_PER_CLUSTER=false.":
    CLUSTER_INFO GAUGE "kindler_cluster_info" ["name" "provider" "desired"]
        "Provider and desired state; always 1.", "";
    CLUSTER_STATUS_PHASE GAUGE "kindler_cluster_status_phase" ["name" "phase"]
        "1 for the actual state, 0 for the others.",
        "failed: `kindler get NAME`. creating or deleting for long: `kindler logs NAME -f`.";
    CLUSTER_STATUS_CONDITION GAUGE "kindler_cluster_status_condition" ["name" "type" "status"]
        "1 for the current status of the condition. Ready: the cluster is running or being updated. Progressing: work on it is due or running. Held: a safety limit defers its next action. StepsDone: every step is done, including best-effort steps. Flapping, absent while false: it fails probes and recovers again and again. NeedsRecreation, absent while false: it runs with values that its provider cannot change.",
        "Ready unknown: the probe cannot run; is the container runtime up? StepsDone false on a running cluster: `kindler get NAME` shows the step.";
    CLUSTER_CREATED GAUGE "kindler_cluster_created" ["name"]
        "Time of the first declaration, in Unix time.", "";
    CLUSTER_SPEC_PAUSED GAUGE "kindler_cluster_spec_paused" ["name"]
        "1 while the cluster is paused: observed, never acted on. With KINDLER_METRICS_PER_CLUSTER=false exported for failing clusters only.",
        "`kindler resume NAME`.";
    CLUSTER_LAST_RECONCILE_TIMESTAMP_SECONDS GAUGE "kindler_cluster_last_reconcile_timestamp_seconds" ["name"]
        "Time at which a reconcile last wrote the row, in Unix time; absent before the first.",
        "Older than a few health intervals: no daemon works on it. See kindler_replicas and kindler_last_resync_timestamp_seconds.";
    CLUSTER_LAST_RECONCILE_AGE_SECONDS GAUGE "kindler_cluster_last_reconcile_age_seconds" ["name"]
        "Time since a reconcile last wrote the row, by the clock of the database alone; absent before the first.",
        "As for the timestamp.";
    CLUSTER_HEALTH_FAILURES GAUGE "kindler_cluster_health_failures" ["name"]
        "Consecutive failed probes of a cluster that runs.",
        "`kindler get NAME` shows what the probe says. At KINDLER_HEALTH_THRESHOLD the cluster is repaired.";
    CLUSTER_DECLARED_TIMESTAMP_SECONDS GAUGE "kindler_cluster_declared_timestamp_seconds" ["name"]
        "Time at which the current generation was declared, in Unix time.", "";
}

/// All families in groups, the core's first.
pub fn groups() -> impl Iterator<Item = &'static FamilyGroup> {
    core_metrics::catalogue::GROUPS.iter().chain(GROUPS)
}

/// The tables of `docs/METRICS.md`.
pub fn table() -> String {
    let mut text = String::new();
    for (group, about, families) in groups() {
        let _ = write!(
            text,
            "### {group}\n\n{about}\n\n\
             | name | type | labels | meaning | what to do |\n|---|---|---|---|---|\n"
        );
        for family in *families {
            let labels: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                family.name,
                family.kind.as_str(),
                labels.join(", "),
                family.help,
                family.advice
            );
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::metrics::Family;

    #[test]
    fn names_follow_the_rules() {
        let families: Vec<&Family> = groups().flat_map(|(_, _, f)| f.iter().copied()).collect();
        let mut names: Vec<_> = families.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), families.len(), "a name is used twice");
        for family in families {
            let name = family.name;
            let ours = ["kindler_", "workqueue_", "http_", "process_"];
            assert!(ours.iter().any(|prefix| name.starts_with(prefix)), "{name}");
            assert_eq!(
                name.ends_with("_total"),
                family.kind == Kind::Counter,
                "{name}"
            );
            if let Kind::Histogram(buckets) = family.kind {
                assert!(name.ends_with("_seconds"), "{name}");
                assert!(buckets.is_sorted() && buckets.len() > 5, "{name}");
            }
            assert!(!family.labels.contains(&"cluster"), "{name}: use `name`");
            assert!(family.help.ends_with('.'), "{name}");
            assert!(
                !family.help.contains('|') && !family.advice.contains('|'),
                "{name}"
            );
        }
    }
}
