//! The metric families of the core: reconciles, queue, wake-ups and leases, steps.

use super::family::{Kind, families};

/// A reconcile: from one observation to a whole create.
const RECONCILE: Kind = Kind::Histogram(&[
    0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0,
]);
/// From a wake-up to its start: milliseconds when idle, a resync interval at worst.
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
    "Reconciles", "Shaped like those of controller-runtime, with the prefix `kindler_`. A process that reconciles nothing (`--api-only`) exports none of these.":
    RECONCILE_TOTAL COUNTER "kindler_reconcile_total" ["controller" "result"]
        "Reconciles, by result: success, error, requeue (again at once), requeue_after (waits for something).",
        "Many errors: `kindler status` names what fails and why. Many requeue: rows change during their reconcile.";
    RECONCILE_ERRORS_TOTAL COUNTER "kindler_reconcile_errors_total" ["controller"]
        "Reconciles that ended in a failure, of the cluster or of the reconcile.",
        "`kindler status`, then `kindler logs NAME` for a cluster that fails.";
    TERMINAL_RECONCILE_ERRORS_TOTAL COUNTER "kindler_terminal_reconcile_errors_total" ["controller"]
        "Failures that no retry fixes, such as a missing script or a row that cannot be read. Retried at the longest delay only.",
        "A person must act: the row's message says what is missing.";
    RECONCILE_PANICS_TOTAL COUNTER "kindler_reconcile_panics_total" ["controller"]
        "Reconciles that panicked, which is a bug in Kindler.",
        "Report it with the log; other keys are not affected.";
    RECONCILE_TIMEOUTS_TOTAL COUNTER "kindler_reconcile_timeouts_total" ["controller"]
        "Commands that were stopped at their deadline.",
        "`kindler logs NAME` shows where it hung; raise KINDLER_CREATE_DEADLINE or KINDLER_DELETE_DEADLINE if it only needs more time.";
    RECONCILE_TIME_SECONDS RECONCILE "kindler_reconcile_time_seconds" ["controller"]
        "Duration of reconciles, including commands.", "";
    REFUSED_WRITES_TOTAL COUNTER "kindler_refused_writes_total" ["controller"]
        "Reconciles whose write the database refused: a constraint or a trigger of others, a privilege, an encoding.",
        "`kindler status` and `kindler get NAME` show the database's message.";
    REFUSED_KEYS GAUGE "kindler_refused_keys" ["controller"]
        "Rows whose last write the database refused and that cannot show it themselves. Retried with a growing delay.",
        "Above 0: `kindler status` shows which and why; remove the cause, then `kindler retry NAME`.";
    ACTIVE_WORKERS GAUGE "kindler_active_workers" ["controller"]
        "Running reconciles.",
        "At kindler_max_concurrent_reconciles for long: everything else waits; raise KINDLER_CONCURRENCY if the host has room.";
    MAX_CONCURRENT_RECONCILES GAUGE "kindler_max_concurrent_reconciles" ["controller"]
        "How many reconciles may run at once.", "";

    "Queue", "Named and shaped exactly like those of controller-runtime, so that its dashboards work.":
    WORKQUEUE_DEPTH GAUGE "workqueue_depth" ["name" "controller"]
        "Keys that are due and wait for a worker.",
        "Rising: more is declared than the workers can handle. See kindler_active_workers and the durations of actions.";
    WORKQUEUE_ADDS_TOTAL COUNTER "workqueue_adds_total" ["name" "controller"]
        "Keys that were added to the queue.", "";
    WORKQUEUE_QUEUE_DURATION_SECONDS WAKEUP "workqueue_queue_duration_seconds" ["name" "controller"]
        "How long due keys waited for a worker.",
        "As for workqueue_depth.";
    WORKQUEUE_WORK_DURATION_SECONDS RECONCILE "workqueue_work_duration_seconds" ["name" "controller"]
        "Duration of the reconciles of keys.", "";
    WORKQUEUE_UNFINISHED_WORK_SECONDS GAUGE "workqueue_unfinished_work_seconds" ["name" "controller"]
        "Sum of the durations so far of all running reconciles; computed at the scrape.",
        "Rising steadily: something hangs. `kindler status` lists the running work and its start.";
    WORKQUEUE_LONGEST_RUNNING_PROCESSOR_SECONDS GAUGE "workqueue_longest_running_processor_seconds" ["name" "controller"]
        "Duration so far of the longest running reconcile; computed at the scrape.",
        "Beyond the deadlines of commands: a worker is stuck. `kindler status` names the cluster.";
    WORKQUEUE_RETRIES_TOTAL COUNTER "workqueue_retries_total" ["name" "controller"]
        "Keys that were requeued after a failure.", "";

    "Wake-ups and leases", "Each instance counts its own.":
    NOTIFICATIONS_TOTAL COUNTER "kindler_notifications_total" ["controller"]
        "Keys with a notification from the database; equal ones are merged.",
        "Flat while rows change: see kindler_listen_connected.";
    WAKEUP_TO_START_SECONDS WAKEUP "kindler_wakeup_to_start_seconds" ["controller"]
        "From the arrival of a notification to the start of its reconcile.",
        "Above a few milliseconds while workers are free: the host is out of CPU time.";
    RESYNC_TOTAL COUNTER "kindler_resync_total" ["controller"]
        "Full passes that were started.", "";
    LAST_RESYNC_TIMESTAMP_SECONDS GAUGE "kindler_last_resync_timestamp_seconds" ["controller"]
        "When a full pass last succeeded, in Unix time; 0 before the first.",
        "Old: missed changes are not found. See kindler_db_up, then the log.";
    LAST_RESYNC_AGE_SECONDS GAUGE "kindler_last_resync_age_seconds" ["controller"]
        "Time since a full pass last succeeded, or since the start before the first; measured by the process, so no clock matters.",
        "Above twice KINDLER_RESYNC_INTERVAL: missed changes are not found. See kindler_db_up, then the log.";
    LEASES_HELD GAUGE "kindler_leases_held" []
        "Leases that this process holds.", "";
    LEASE_LOST_TOTAL COUNTER "kindler_lease_lost_total" []
        "Leases lost while work was running; its command was ended.",
        "The database was unreachable for longer than the lease lasts, or this host was suspended.";

    "Steps", "The steps of the driver's work on an object. Operations: apply, remove.":
    STEP_DURATION_SECONDS STEP "kindler_step_duration_seconds" ["controller" "driver" "step" "operation"]
        "Duration of attempts at a step, including the observation after it.",
        "A step that takes longer shows which part of the host is slow.";
    STEP_FAILURES_TOTAL COUNTER "kindler_step_failures_total" ["controller" "driver" "step" "operation"]
        "Failed attempts at a step.",
        "`kindler get NAME` shows the step, why it failed and when it is retried.";
}
