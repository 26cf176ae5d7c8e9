//! The privileges that each kind of process needs, as `sql/roles.sql` gives them.
//! `tests/suite/schema/ground.rs` compares the two.

use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;

/// A process that uses the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseUser {
    /// A daemon that reconciles.
    Daemon,
    /// A server of the page and the API.
    Api,
    /// A person who looks.
    Reader,
}

/// What a process needs: privilege, kind, objects, columns.
type Needed = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const READ: &[&str] = &[
    "clusters",
    "cluster_leases",
    "cluster_steps",
    "kindler_replicas",
    "cluster_events",
    "cluster_revisions",
    "cluster_deletions",
    "kindler_watchers",
    "kindler_migrations",
];

/// Only for those who check them.
const READ_SECRETS: &[&str] = &["kindler_tokens", "kindler_sessions"];

const STATUS: &[&str] = &[
    "actual_state",
    "status_reason",
    "status_message",
    "reconcile_error",
    "failed_attempts",
    "next_attempt_at",
    "health_failures",
    "last_healthy_at",
    "next_check_at",
    "last_reconciled_at",
    "observed_generation",
    "observed_spec_hash",
    "placed_by",
    "flaps",
    "flapped_at",
    "driver",
    "engine",
    "recreate_requested_at",
    "server_ip",
];

const DECLARED: &[&str] = &[
    "labels",
    "paused",
    "desired_state",
    "subnet",
    "node_port",
    "pf_port",
    "http_port",
    "https_port",
    "register_portainer",
    "haproxy_route",
    "register_argocd",
];

const DAEMON: &[Needed] = &[
    ("SELECT", "table", READ, &[]),
    ("SELECT", "table", READ_SECRETS, &[]),
    ("UPDATE", "column", &["clusters"], STATUS),
    (
        "DELETE",
        "table",
        &[
            "clusters",
            "cluster_leases",
            "kindler_replicas",
            "kindler_watchers",
        ],
        &[],
    ),
    (
        "INSERT",
        "table",
        &[
            "cluster_leases",
            "kindler_replicas",
            "kindler_watchers",
            "cluster_steps",
            "cluster_deletions",
        ],
        &[],
    ),
    (
        "UPDATE",
        "table",
        &[
            "cluster_leases",
            "kindler_replicas",
            "kindler_watchers",
            "cluster_steps",
        ],
        &[],
    ),
    ("USAGE", "sequence", &["cluster_lease_terms"], &[]),
    ("EXECUTE", "function", &["kindler_went_back(bigint)"], &[]),
    ("UPDATE", "column", &["kindler_tokens"], &["last_used_at"]),
];

const API: &[Needed] = &[
    ("SELECT", "table", READ, &[]),
    ("SELECT", "table", READ_SECRETS, &[]),
    ("INSERT", "column", &["clusters"], &["name", "provider"]),
    ("INSERT", "column", &["clusters"], DECLARED),
    ("UPDATE", "column", &["clusters"], DECLARED),
    (
        "UPDATE",
        "column",
        &["clusters"],
        &[
            "retry_requested_at",
            "adopt_requested_at",
            "recreate_requested_at",
        ],
    ),
    (
        "INSERT",
        "table",
        &["kindler_watchers", "kindler_sessions"],
        &[],
    ),
    ("UPDATE", "table", &["kindler_watchers"], &[]),
    (
        "DELETE",
        "table",
        &["kindler_watchers", "kindler_sessions"],
        &[],
    ),
    ("UPDATE", "column", &["kindler_tokens"], &["last_used_at"]),
];

const READER: &[Needed] = &[("SELECT", "table", READ, &[])];

/// A privilege that a role lacks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LackingPrivilege {
    privilege: String,
    kind: String,
    object: String,
    field: String,
}

impl fmt::Display for LackingPrivilege {
    /// As in a GRANT: `UPDATE (placed_by) ON clusters`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            privilege,
            kind,
            object,
            field,
        } = self;
        match kind.as_str() {
            "column" => write!(f, "{privilege} ({field}) ON {object}"),
            "table" => write!(f, "{privilege} ON {object}"),
            kind => write!(f, "{privilege} ON {} {object}", kind.to_uppercase()),
        }
    }
}

/// The privileges in columns, as the statement needs them.
#[derive(Debug, Default)]
pub(super) struct NeededPrivileges {
    pub(super) privileges: Vec<&'static str>,
    pub(super) kinds: Vec<&'static str>,
    pub(super) objects: Vec<&'static str>,
    pub(super) columns: Vec<&'static str>,
}

impl NeededPrivileges {
    pub(super) fn of(user: DatabaseUser) -> &'static Self {
        static OF_DAEMON: LazyLock<NeededPrivileges> =
            LazyLock::new(|| NeededPrivileges::listed(DAEMON));
        static OF_API: LazyLock<NeededPrivileges> = LazyLock::new(|| NeededPrivileges::listed(API));
        static OF_READER: LazyLock<NeededPrivileges> =
            LazyLock::new(|| NeededPrivileges::listed(READER));
        match user {
            DatabaseUser::Daemon => &OF_DAEMON,
            DatabaseUser::Api => &OF_API,
            DatabaseUser::Reader => &OF_READER,
        }
    }

    fn listed(all: &'static [Needed]) -> Self {
        let mut listed = Self::default();
        for &(privilege, kind, objects, columns) in all {
            for object in objects {
                for column in if columns.is_empty() { &[""] } else { columns } {
                    listed.privileges.push(privilege);
                    listed.kinds.push(kind);
                    listed.objects.push(object);
                    listed.columns.push(column);
                }
            }
        }
        listed
    }
}
