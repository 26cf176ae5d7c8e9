//! The families of the core: reconciles, queue, wake-ups and leases, steps.

use super::family::{Kind, families};

/// A reconcile: from a look at a row to a whole create.
const RECONCILE: Kind = Kind::Histogram(&[
    0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0,
]);
/// From a wake-up to its work: milliseconds when idle, the resync at worst.
const WAKEUP: Kind = Kind::Histogram(&[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0, 30.0,
]);
/// One step: from a rename to the pull of an image.
const STEP: Kind = Kind::Histogram(&[
    0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
]);
const COUNTER: Kind = Kind::Counter;
const GAUGE: Kind = Kind::Gauge;

families! {
    "Reconciles", "In the shapes of controller-runtime, under our prefix. A process that reconciles nothing (`--api-only`) exports none of these.":
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
        "Report it with the log; the other keys go on.";
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

    "Wake-ups and leases", "What one process sees: each instance has its own.":
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

    "Steps", "Parts of work on an object, as its driver has them. Operations: apply, remove.":
    STEP_DURATION_SECONDS STEP "kindler_step_duration_seconds" ["controller" "driver" "step" "operation"]
        "How long attempts at a step took, the look after it included.",
        "One step that grows tells which part of the host is slow.";
    STEP_FAILURES_TOTAL COUNTER "kindler_step_failures_total" ["controller" "driver" "step" "operation"]
        "Attempts at a step that failed.",
        "`kindler get NAME` shows the step, why it failed and when it is tried next.";
}
