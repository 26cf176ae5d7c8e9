//! Every family that Kindler exports; the core's are in [`crate::core::metrics`].

use std::fmt::Write;

use crate::core::metrics::{self as core_metrics, FamilyGroup, Kind, families};

/// Cluster creation takes minutes: controller-runtime's buckets end at 60 s.
const ACTION: Kind = Kind::Histogram(&[
    1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 900.0, 1800.0,
]);
/// From the wish to the cluster that answers, waiting and retries included.
const READY: Kind = Kind::Histogram(&[
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 900.0,
    1800.0, 3600.0,
]);
/// An answer over HTTP.
const HTTP: Kind = Kind::Histogram(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
]);
const COUNTER: Kind = Kind::Counter;
const GAUGE: Kind = Kind::Gauge;

families! {
    "Actions", "What is done to clusters. Actions: create, update, start, stop, delete.":
    ACTION_TOTAL COUNTER "kindler_action_total" ["action" "result"]
        "Actions on clusters, by how they ended: success, failure, interrupted (the wish changed, the lease was lost, the process ended).",
        "Failures: `kindler status`, then `kindler logs NAME`.";
    ACTION_DURATION_SECONDS ACTION "kindler_action_duration_seconds" ["action"]
        "How long actions on clusters took, verification included.",
        "Rising: the host or the network is slow; images may be pulled anew.";
    READY_SECONDS READY "kindler_ready_seconds" []
        "From the declaration to the cluster that answers, for each generation that was reached by running; counted by the replica that saw it.",
        "Rising: compare with kindler_action_duration_seconds (the command) and workqueue_queue_duration_seconds (waiting).";
    DRIFT_TOTAL COUNTER "kindler_drift_total" ["reason"]
        "Running clusters that were found otherwise and are repaired: unhealthy, stopped, or gone.",
        "Somebody or something changes clusters behind Kindler's back, or the host is ill.";

    "Edges of this process", "What one process sees: each instance has its own.":
    BUILD_INFO GAUGE "kindler_build_info" ["version"]
        "The running release; always 1.", "";
    DB_UP GAUGE "kindler_db_up" []
        "1 if the database answered during this scrape.",
        "`curl HOST/readyz` says why not. Clusters that run go on running; nothing is reconciled meanwhile.";
    SCRAPE_COMPLETE GAUGE "kindler_scrape_complete" []
        "1 if all that this scrape has to tell was read in time.",
        "0 although kindler_db_up is 1: what could not be read within 1.5 s is missing. See to the database, or set KINDLER_METRICS_PER_CLUSTER=false.";
    DB_POOL_CONNECTIONS GAUGE "kindler_db_pool_connections" ["state"]
        "Connections of the pool that are in_use or idle, and calls that are waiting for one.",
        "Waiting above 0 for long: the database is slow, or KINDLER_CONCURRENCY is above what it allows.";
    LISTEN_CONNECTED GAUGE "kindler_listen_connected" []
        "1 while notifications arrive.",
        "0: changes are found by full passes only, that is up to KINDLER_RESYNC_INTERVAL later. `/readyz` says why; a transaction pooler is the usual cause.";
    LISTEN_RECONNECTS_TOTAL COUNTER "kindler_listen_reconnects_total" []
        "How often the listener was connected again after a loss.",
        "Rising steadily: something between Kindler and the database cuts connections.";
    STREAMS_OPEN GAUGE "kindler_streams_open" []
        "Streams that are open: pages, followed logs, WebSockets.", "";

    "HTTP", "Routes are templates (`/api/clusters/{name}`), never paths; what no route matches is the page and counts as `page`. A stream is counted when it opens, and its length is no latency: it is not observed.":
    HTTP_REQUESTS_TOTAL COUNTER "http_requests_total" ["method" "route" "code"]
        "Requests that were answered.",
        "5xx: the log says why. 401 and 403: somebody uses a wrong token or a wrong name of this host.";
    HTTP_REQUEST_DURATION_SECONDS HTTP "http_request_duration_seconds" ["method" "route"]
        "From the request to the head of its answer.",
        "Slow reads: the database. See kindler_db_pool_connections.";

    "Process", "As Prometheus' own clients name them.":
    PROCESS_CPU_SECONDS_TOTAL COUNTER "process_cpu_seconds_total" []
        "Total user and system CPU time spent in seconds.", "";
    PROCESS_OPEN_FDS GAUGE "process_open_fds" []
        "Number of open file descriptors.",
        "Near process_max_fds: look for what is open with `ls /proc/PID/fd`.";
    PROCESS_MAX_FDS GAUGE "process_max_fds" []
        "Maximum number of open file descriptors.", "";
    PROCESS_VIRTUAL_MEMORY_BYTES GAUGE "process_virtual_memory_bytes" []
        "Virtual memory size in bytes.", "";
    PROCESS_RESIDENT_MEMORY_BYTES GAUGE "process_resident_memory_bytes" []
        "Resident memory size in bytes.",
        "Rising for days: a leak; report it.";
    PROCESS_START_TIME_SECONDS GAUGE "process_start_time_seconds" []
        "Start time of the process since unix epoch in seconds.",
        "Young again and again: it is restarted; ask the supervisor why.";
    PROCESS_THREADS GAUGE "process_threads" []
        "Number of OS threads in the process.", "";

    "Fleet", "Read from the database at each scrape, so every instance on one database tells the same: aggregate with `max by (...)`, never with `sum` over instances. Absent while the database does not answer.":
    REPLICAS GAUGE "kindler_replicas" ["reconciles"]
        "Daemons that were heard of lately; `false` are those that begin nothing, because a later release owns the schema.",
        "`true` at 0: nobody does what is declared. Start a daemon, or finish the upgrade.";
    CLUSTERS GAUGE "kindler_clusters" ["desired" "actual"]
        "Clusters by what is wanted and what is recorded.",
        "`kindler list` names them.";
    DELETIONS_HELD GAUGE "kindler_deletions_held" []
        "Deletions that wait for their turn under KINDLER_DELETE_CAP.",
        "Was such a wave of deletions meant? If not, declare them present again, or `kindler pause` them.";
    REPAIRS_HELD GAUGE "kindler_repairs_held" []
        "Repairs that wait because most clusters do not answer.",
        "Look at the host: is the container runtime up?";
    CLUSTERS_UNSELECTED GAUGE "kindler_clusters_unselected" []
        "Clusters that no daemon works on, because no KINDLER_SELECTOR selects them; paused and protected ones left out.",
        "`kindler status` names them. Label them, or start a daemon of their place.";
    DB_NOTIFICATION_QUEUE_USAGE_RATIO GAUGE "kindler_db_notification_queue_usage_ratio" []
        "How full the server's queue of notifications is, 0 to 1.",
        "At 1 every commit that notifies fails. Some session listens inside a transaction that never ends, or its client stands still: find it in pg_stat_activity.";

    STEP_STATE GAUGE "kindler_step_state" ["driver" "step" "state"]
        "Clusters that have this step of their driver in this state, for each step that is recorded of a cluster.",
        "failed, or running for long: `kindler list` names the clusters, `kindler get NAME` shows why the step failed and its next try.";

    "What fails", "Of the fleet, always exported, for the 200 worst (most failures in a row).":
    CLUSTER_CONSECUTIVE_FAILURES GAUGE "kindler_cluster_consecutive_failures" ["name"]
        "Failed attempts in a row.",
        "`kindler get NAME` and `kindler logs NAME`.";
    CLUSTER_STATUS_REASON GAUGE "kindler_cluster_status_reason" ["name" "reason"]
        "1 for the reason that the row gives now: a word of one closed list, never an error's text.", "";
    CLUSTER_NEXT_RETRY_TIMESTAMP_SECONDS GAUGE "kindler_cluster_next_retry_timestamp_seconds" ["name"]
        "When it is tried next, in Unix time; absent while it is being tried or due at once.",
        "`kindler retry NAME` tries at once.";

    "Each cluster", "Of the fleet. Off with KINDLER_METRICS_PER_CLUSTER=false.":
    CLUSTER_INFO GAUGE "kindler_cluster_info" ["name" "provider" "desired"]
        "What is declared; always 1.", "";
    CLUSTER_STATUS_PHASE GAUGE "kindler_cluster_status_phase" ["name" "phase"]
        "1 for the recorded state, 0 for the others.",
        "failed: `kindler get NAME`. creating or deleting for long: `kindler logs NAME -f`.";
    CLUSTER_STATUS_CONDITION GAUGE "kindler_cluster_status_condition" ["name" "type" "status"]
        "1 for the status that holds. Ready: it answers. Progressing: something is left to do and is being done. Held: what is to be done waits for the good of all. StepsDone: every step is done, also those that may fail.",
        "Ready unknown: the look itself fails; is the container runtime up? StepsDone false on a running cluster: `kindler get NAME` shows the step.";
    CLUSTER_CREATED GAUGE "kindler_cluster_created" ["name"]
        "When it was first declared, in Unix time.", "";
    CLUSTER_SPEC_PAUSED GAUGE "kindler_cluster_spec_paused" ["name"]
        "1 while it is paused: looked at, never acted on. With KINDLER_METRICS_PER_CLUSTER=false told of what fails only.",
        "`kindler resume NAME`.";
    CLUSTER_LAST_RECONCILE_TIMESTAMP_SECONDS GAUGE "kindler_cluster_last_reconcile_timestamp_seconds" ["name"]
        "When a reconcile last wrote to its row, in Unix time; absent before the first.",
        "Older than a few health intervals: nobody works on it. See kindler_replicas and kindler_last_resync_timestamp_seconds.";
    CLUSTER_DECLARED_TIMESTAMP_SECONDS GAUGE "kindler_cluster_declared_timestamp_seconds" ["name"]
        "When what is wanted now was declared, in Unix time.", "";
}

/// All of them, in groups, the core's first.
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
             | name | type | labels | meaning | when it looks wrong |\n|---|---|---|---|---|\n"
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
