//! Every family that Kindler exports: name, type, labels, meaning, and what to
//! do when it looks wrong. Collectors are made from these entries and
//! `docs/METRICS.md` is printed from them, so the three cannot differ.

use std::fmt::Write;

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only rises, and starts over with the process.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts observations by size; these are the upper bounds, in seconds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The word after `# TYPE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One family of series.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// The name, with its unit.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The labels of each series, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    /// What a person does when it looks wrong; empty where it only informs.
    pub advice: &'static str,
}

/// Cluster creation takes minutes: controller-runtime's buckets end at 60 s.
const ACTION: Kind = Kind::Histogram(&[
    1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 900.0, 1800.0,
]);
/// A reconcile: from a look at a row to a whole create.
const RECONCILE: Kind = Kind::Histogram(&[
    0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0,
]);
/// From a wake-up to its work: milliseconds when idle, the resync at worst.
const WAKEUP: Kind = Kind::Histogram(&[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0, 30.0,
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

macro_rules! families {
    ($($group:literal, $about:literal: $(
        $id:ident $kind:ident $name:literal [$($label:literal)*] $help:literal, $advice:literal;
    )+)+) => {
        $($(
            #[doc = $help]
            pub static $id: Family = Family {
                name: $name, kind: $kind, labels: &[$($label),*], help: $help, advice: $advice,
            };
        )+)+

        /// All of them, in groups with a heading and a word about the group.
        pub static GROUPS: &[(&str, &str, &[&Family])] = &[$(($group, $about, &[$(&$id),+])),+];
    };
}

families! {
    "Reconciles", "In the shapes of controller-runtime, under our prefix. The controller is always `cluster`; one that reconciles nothing (`--api-only`) exports none of these.":
    RECONCILE_TOTAL COUNTER "kindler_reconcile_total" ["controller" "result"]
        "Reconciles, by how they ended: success, error, requeue (again at once), requeue_after (waits for something).",
        "Many errors: `kindler status` names what fails and why. Many requeue: rows change while they are worked on.";
    RECONCILE_ERRORS_TOTAL COUNTER "kindler_reconcile_errors_total" ["controller"]
        "Reconciles that ended in a failure, of the cluster or of the reconcile.",
        "`kindler status`, then `kindler logs NAME` of what fails.";
    TERMINAL_RECONCILE_ERRORS_TOTAL COUNTER "kindler_terminal_reconcile_errors_total" ["controller"]
        "Failures that no retry mends: a script that is not there, a row that cannot be read. Tried again at the longest delay only.",
        "A person must act: the row's message says what is missing.";
    RECONCILE_PANICS_TOTAL COUNTER "kindler_reconcile_panics_total" ["controller"]
        "Reconciles that panicked: a defect of Kindler.",
        "Report it with the log; the other clusters go on.";
    RECONCILE_TIMEOUTS_TOTAL COUNTER "kindler_reconcile_timeouts_total" ["controller"]
        "Commands that were stopped at their deadline.",
        "`kindler logs NAME` shows where it hung; raise KINDLER_CREATE_DEADLINE or KINDLER_DELETE_DEADLINE if it only needs longer.";
    RECONCILE_TIME_SECONDS RECONCILE "kindler_reconcile_time_seconds" ["controller"]
        "How long reconciles took, commands included.", "";
    ACTIVE_WORKERS GAUGE "kindler_active_workers" ["controller"]
        "Reconciles under way.",
        "At kindler_max_concurrent_reconciles for long: everything else waits; raise KINDLER_CONCURRENCY if the host can bear it.";
    MAX_CONCURRENT_RECONCILES GAUGE "kindler_max_concurrent_reconciles" ["controller"]
        "How many reconciles may be under way at once.", "";

    "Queue", "Names and shapes of controller-runtime without change, so that dashboards for it work.":
    WORKQUEUE_DEPTH GAUGE "workqueue_depth" ["name" "controller"]
        "Keys that are due and wait for a worker.",
        "Rising: more is declared than the workers can do. See kindler_active_workers and the durations of actions.";
    WORKQUEUE_ADDS_TOTAL COUNTER "workqueue_adds_total" ["name" "controller"]
        "Keys that came into the queue.", "";
    WORKQUEUE_QUEUE_DURATION_SECONDS WAKEUP "workqueue_queue_duration_seconds" ["name" "controller"]
        "How long keys that were due waited for a worker.",
        "As for workqueue_depth.";
    WORKQUEUE_WORK_DURATION_SECONDS RECONCILE "workqueue_work_duration_seconds" ["name" "controller"]
        "How long keys were worked on.", "";
    WORKQUEUE_UNFINISHED_WORK_SECONDS GAUGE "workqueue_unfinished_work_seconds" ["name" "controller"]
        "How long everything that is under way has been, added up; computed at the scrape.",
        "Rising steadily: something hangs. `kindler status` lists what is being done and since when.";
    WORKQUEUE_LONGEST_RUNNING_PROCESSOR_SECONDS GAUGE "workqueue_longest_running_processor_seconds" ["name" "controller"]
        "How long the oldest reconcile under way has been; computed at the scrape.",
        "Beyond the deadlines of commands: a worker is stuck. `kindler status` names the cluster.";
    WORKQUEUE_RETRIES_TOTAL COUNTER "workqueue_retries_total" ["name" "controller"]
        "Keys that were queued again after a failure.", "";

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

    "Edges of this process", "What one process sees; each instance tells of itself.":
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
    NOTIFICATIONS_TOTAL COUNTER "kindler_notifications_total" ["controller"]
        "Keys that the database rang for, equal ones folded.",
        "Flat while rows change: see kindler_listen_connected.";
    WAKEUP_TO_START_SECONDS WAKEUP "kindler_wakeup_to_start_seconds" ["controller"]
        "From the arrival of a notification to the start of its work.",
        "Above a few milliseconds while workers are free: the host has no CPU to give.";
    RESYNC_TOTAL COUNTER "kindler_resync_total" ["controller"]
        "Full passes over what is due that were begun.", "";
    LAST_RESYNC_TIMESTAMP_SECONDS GAUGE "kindler_last_resync_timestamp_seconds" ["controller"]
        "When a full pass last succeeded, in Unix time; 0 before the first.",
        "Old: nothing that was missed is found. See kindler_db_up, then the log.";
    LEASES_HELD GAUGE "kindler_leases_held" []
        "Clusters that this process holds the lease of.", "";
    LEASE_LOST_TOTAL COUNTER "kindler_lease_lost_total" []
        "Leases lost while work was under way; its command was ended.",
        "The database was away for longer than the lease lives, or this host stood still.";
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
        "1 for the status that holds. Ready: it answers. Progressing: something is left to do and is being done. Held: what is to be done waits for the good of all.",
        "Ready unknown: the look itself fails; is the container runtime up?";
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

/// The tables of `docs/METRICS.md`.
pub fn table() -> String {
    let mut text = String::new();
    for (group, about, families) in GROUPS {
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

    #[test]
    fn names_follow_the_rules() {
        let families: Vec<&Family> = GROUPS
            .iter()
            .flat_map(|(_, _, f)| f.iter().copied())
            .collect();
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
