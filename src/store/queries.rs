//! The texts of the queries, one file each in `sql/queries`.

use std::sync::LazyLock;

/// The text of one query, with `{cluster}` replaced by the cluster's columns.
pub(super) type Query = LazyLock<String>;

pub(super) const CLUSTER_COLUMNS: &str = include_str!("../../sql/queries/cluster_columns.sql");

macro_rules! queries {
    ($($name:ident = $file:literal;)+) => {
        $(pub(super) static $name: Query = LazyLock::new(|| {
            include_str!(concat!("../../sql/queries/", $file, ".sql"))
                .replace("{cluster}", CLUSTER_COLUMNS)
        });)+
    };
}

queries! {
    WRITE_HEARTBEAT = "write_heartbeat";
    CLOSE_SESSION = "close_session";
    COUNT_CLUSTERS = "count_clusters";
    COUNT_DELETION = "count_deletion";
    COUNT_DUE = "count_due";
    COUNT_DEFERRED = "count_deferred";
    COUNT_REPLICAS = "count_replicas";
    COUNT_STEPS = "count_steps";
    COUNT_UNCONVERGED = "count_unconverged";
    CREATE_TOKEN = "create_token";
    DECLARE_CLUSTER = "declare_cluster";
    EDIT_CLUSTER = "edit_cluster";
    FIND_INCARNATION = "find_incarnation";
    FIND_PORTS = "find_ports";
    FIND_REMOVAL = "find_removal";
    FIND_SESSION = "find_session";
    FIND_TASK = "find_task";
    FIND_TOKEN = "find_token";
    GET_CLUSTER = "get_cluster";
    HAS_LIVE_TOKEN = "has_live_token";
    LIST_AUDIT = "list_audit";
    LIST_CHANGES = "list_changes";
    LIST_CLUSTERS = "list_clusters";
    LIST_EVENTS = "list_events";
    LIST_FAILING = "list_failing";
    LIST_FILTERED = "list_filtered";
    LIST_LEASES = "list_leases";
    LIST_LIVE_GRANTS = "list_live_grants";
    LIST_NAMES = "list_names";
    LIST_PEERS = "list_peers";
    LIST_USED_NAMES = "list_used_names";
    LIST_PORT_USERS = "list_port_users";
    LIST_REPLICAS = "list_replicas";
    LIST_REVISIONS = "list_revisions";
    LIST_CLUSTER_SAMPLES = "list_cluster_samples";
    LIST_STEPS = "list_steps";
    LIST_TOKENS = "list_tokens";
    LIST_UNSELECTED = "list_unselected";
    LIST_FAILING_SAMPLES = "list_failing_samples";
    LOCK_DECLARATIONS = "lock_declarations";
    LOCK_DELETIONS = "lock_deletions";
    RECORD_TOKEN_USE = "record_token_use";
    OPEN_SESSION = "open_session";
    READ_DECLARED = "read_declared";
    READ_DELETION_QUEUE = "read_deletion_queue";
    REQUEST_RETRY = "request_retry";
    REMOVE_REPLICA = "remove_replica";
    REVOKE_TOKEN = "revoke_token";
    ROLL_BACK = "roll_back";
    SET_DESIRED = "set_desired";
    SET_PAUSED = "set_paused";
    SUGGEST = "suggest";
    UNWATCH = "unwatch";
    WATCH = "watch";
}
