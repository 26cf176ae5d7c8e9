//! The texts of the queries, one file each in `sql/queries`.

use std::sync::LazyLock;

use crate::clusters::spec_columns;
use crate::core::database::{named_parameters, numbered};

use super::spec_sql;

/// The text of one query.
pub(super) type Query = LazyLock<String>;

pub(super) const CLUSTER_COLUMNS: &str = concat!(
    include_str!("../../sql/queries/cluster_columns.sql"),
    spec_columns!()
);

/// The text with the parts that several statements share.
fn filled(text: &str) -> String {
    let text = text.replace("{cluster}", CLUSTER_COLUMNS);
    let marks = spec_sql::marks().into_iter();
    marks.fold(text, |text, (mark, part)| text.replace(mark, &part))
}

macro_rules! text {
    ($file:literal) => {
        include_str!(concat!("../../sql/queries/", $file, ".sql"))
    };
}

/// Statements whose parameters are bound by position.
macro_rules! queries {
    ($($name:ident = $file:literal;)+) => {
        $(pub(super) static $name: Query = LazyLock::new(|| filled(text!($file)));)+
    };
}

/// Statements whose parameters are bound by name, each with a struct of them.
macro_rules! named_queries {
    ($($name:ident = $file:literal { $($parameter:ident),+ $(,)? })+) => {
        $(named_parameters! { $name { $($parameter),+ } }

        impl $name<'_> {
            /// The statement of these parameters.
            pub(super) fn sql() -> &'static str {
                static SQL: Query = LazyLock::new(|| numbered(&filled(text!($file)), $name::NAMES));
                &SQL
            }
        })+

        #[cfg(test)]
        const NAMED: &[(&str, &str, &[&str])] = &[$(($file, text!($file), $name::NAMES)),+];
    };
}

named_queries! {
    CheckGround = "check_ground" {
        tables, kinds, relations, names, fingerprints,
        privileges, kinds_needed, objects_needed, columns_needed
    }
    WriteHeartbeat = "write_heartbeat" {
        owner, host, pid, version, listen, listening, notice, selector, standby, refused, findings,
        settings, scripts
    }
    DeclareCluster = "declare_cluster" { name, spec, labels, desired, paused, actor }
    EditCluster = "edit_cluster" { name, generation, spec, labels, paused, desired, actor }
    ListAudit = "list_audit" { cluster, actor, kinds, before, limit, after, removal, uid }
    ListEvents = "list_events" { name, after, limit, removal, uid }
    ListFiltered = "list_filtered" {
        part, providers, desired, actual, reasons, paused, labels, order, limit, offset
    }
    RollBack = "roll_back" { name, revision, generation, actor }
}

queries! {
    CLOSE_SESSION = "close_session";
    COUNT_CLUSTERS = "count_clusters";
    COUNT_DELETION = "count_deletion";
    COUNT_DUE = "count_due";
    COUNT_DEFERRED = "count_deferred";
    COUNT_REMOVED = "count_removed";
    COUNT_REPLICAS = "count_replicas";
    COUNT_STEPS = "count_steps";
    COUNT_UNCONVERGED = "count_unconverged";
    CREATE_TOKEN = "create_token";
    FIND_COMPLETION = "find_completion";
    FIND_INCARNATION = "find_incarnation";
    FIND_PORTS = "find_ports";
    FIND_REMOVAL = "find_removal";
    FIND_SCHEMAS = "find_schemas";
    FIND_SESSION = "find_session";
    FIND_TASK = "find_task";
    FIND_TOKEN = "find_token";
    GET_CLUSTER = "get_cluster";
    HAS_LIVE_TOKEN = "has_live_token";
    LIST_CHANGES = "list_changes";
    LIST_CLUSTERS = "list_clusters";
    LIST_DEFERRED_DELETIONS = "list_deferred_deletions";
    LIST_DRIVERS = "list_drivers";
    LIST_FACTS = "list_facts";
    LIST_FAILING = "list_failing";
    LIST_LEASES = "list_leases";
    LIST_LIVE_GRANTS = "list_live_grants";
    LIST_NAMES = "list_names";
    LIST_PEERS = "list_peers";
    LIST_USED_NAMES = "list_used_names";
    LIST_VANISHED = "list_vanished";
    LIST_PORT_CONFLICTS = "list_port_conflicts";
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
    READ_NOTIFICATION_QUEUE = "read_notification_queue";
    READ_DELETION_QUEUE = "read_deletion_queue";
    READ_SERVER = "read_server";
    READ_TERMS = "read_terms";
    REQUEST_RETRY = "request_retry";
    REQUEST_ADOPT = "request_adopt";
    REQUEST_RECREATE = "request_recreate";
    REMOVE_REPLICA = "remove_replica";
    WRITE_WORKLOAD = "write_workload";
    REVOKE_TOKEN = "revoke_token";
    SET_DESIRED = "set_desired";
    SET_PAUSED = "set_paused";
    SUGGEST = "suggest";
    WENT_BACK = "went_back";
    UNREGISTER_STREAMS = "unregister_streams";
    REGISTER_STREAMS = "register_streams";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::database::unmatched_names;

    #[test]
    fn names_in_the_texts_are_the_fields() {
        for (file, text, names) in NAMED {
            let unmatched = unmatched_names(&filled(text), names);
            assert!(
                unmatched.is_empty(),
                "sql/queries/{file}.sql: {unmatched:?}"
            );
        }
    }

    #[test]
    fn a_statement_with_many_parameters_names_them() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/queries");
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap().path();
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(!text.contains("$5"), "{}: use :name", file.display());
        }
    }
}
