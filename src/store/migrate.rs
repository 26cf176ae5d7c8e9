//! Migrates a database to the schema of this release. Migrations only add; each is
//! applied once, all in one transaction, under a lock that excludes other migrators.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, IsolationLevel, Transaction};
use tracing::warn;

use super::restore::{refuse_second_set, restore};
use crate::core::database::{
    Blocker, Database, NEXT_ATTEMPT, NoConnection, blockers, dead_client_limits, is_lock_timeout,
    limit_waits, lock_tables,
};

/// The migrations in order.
pub(super) const MIGRATIONS: [(i32, &str, &str); 26] = [
    (
        1,
        "clusters",
        include_str!("../../sql/migrations/0001_clusters.sql"),
    ),
    (
        2,
        "ledger",
        include_str!("../../sql/migrations/0002_ledger.sql"),
    ),
    (
        3,
        "triggers",
        include_str!("../../sql/migrations/0003_triggers.sql"),
    ),
    (
        4,
        "safety",
        include_str!("../../sql/migrations/0004_safety.sql"),
    ),
    (
        5,
        "live",
        include_str!("../../sql/migrations/0005_live.sql"),
    ),
    (
        6,
        "access",
        include_str!("../../sql/migrations/0006_access.sql"),
    ),
    (
        7,
        "placing",
        include_str!("../../sql/migrations/0007_placing.sql"),
    ),
    (
        8,
        "label books",
        include_str!("../../sql/migrations/0008_label_books.sql"),
    ),
    (
        9,
        "aside",
        include_str!("../../sql/migrations/0009_aside.sql"),
    ),
    (
        10,
        "distinct ports",
        include_str!("../../sql/migrations/0010_distinct_ports.sql"),
    ),
    (
        11,
        "identity",
        include_str!("../../sql/migrations/0011_identity.sql"),
    ),
    (
        12,
        "steps",
        concat!(
            include_str!("../../sql/core/prepare.sql"),
            include_str!("../../sql/migrations/0012_steps.sql")
        ),
    ),
    (
        13,
        "comments",
        include_str!("../../sql/migrations/0013_comments.sql"),
    ),
    (
        14,
        "notify",
        concat!(
            include_str!("../../sql/core/prepare.sql"),
            include_str!("../../sql/migrations/0014_notify.sql")
        ),
    ),
    (
        15,
        "went back",
        include_str!("../../sql/migrations/0015_went_back.sql"),
    ),
    (
        16,
        "timelines",
        concat!(
            include_str!("../../sql/core/prepare.sql"),
            include_str!("../../sql/migrations/0016_timelines.sql")
        ),
    ),
    (
        17,
        "refused",
        include_str!("../../sql/migrations/0017_refused.sql"),
    ),
    (
        18,
        "findings",
        concat!(
            include_str!("../../sql/core/prepare.sql"),
            include_str!("../../sql/migrations/0018_findings.sql")
        ),
    ),
    (
        19,
        "restarting",
        include_str!("../../sql/migrations/0019_restarting.sql"),
    ),
    (
        20,
        "ports and times",
        include_str!("../../sql/migrations/0020_ports_and_times.sql"),
    ),
    (
        21,
        "declared",
        include_str!("../../sql/migrations/0021_declared.sql"),
    ),
    (
        22,
        "owned",
        include_str!("../../sql/migrations/0022_owned.sql"),
    ),
    (
        23,
        "names",
        include_str!("../../sql/migrations/0023_names.sql"),
    ),
    (
        24,
        "server ip",
        include_str!("../../sql/migrations/0024_server_ip.sql"),
    ),
    (
        25,
        "free ports",
        include_str!("../../sql/migrations/0025_free_ports.sql"),
    ),
    (
        26,
        "adopted",
        include_str!("../../sql/migrations/0026_adopted.sql"),
    ),
];

/// The schema that this release needs.
pub const SCHEMA_VERSION: i32 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// The oldest server version that has everything the schema uses (13).
const OLDEST_SERVER: i32 = 130_000;

/// How long to wait for another migrator, which delays no other session.
const MIGRATOR_TIMEOUT: &str = "60s";

/// How long to try to lock the tables.
const LOCKED_WITHIN: Duration = Duration::from_secs(60);

/// The tables that exist before a migration, in the order in which they are locked.
pub(super) const TABLES: [&str; 12] = [
    "clusters",
    "cluster_leases",
    "cluster_steps",
    "cluster_events",
    "cluster_revisions",
    "cluster_deletions",
    "kindler_replicas",
    "kindler_watchers",
    "kindler_tokens",
    "kindler_sessions",
    "kindler_timelines",
    "kindler_migrations",
];

/// The deadline of the whole migration, from connecting on.
const DEADLINE: Duration = Duration::from_secs(600);

/// Why a migration failed. It is one transaction, so nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The connection failed.
    #[error("migrate: the database cannot be reached")]
    Unreachable(#[source] NoConnection),
    /// A statement failed; nothing was changed.
    #[error("migrate: {operation} failed and nothing was changed: {answer}")]
    Operation {
        /// The migration or statement.
        operation: String,
        /// The server's message and hint.
        answer: String,
        /// Whether the login lacks a privilege.
        denied: bool,
        /// The error of the client library, if the server has not answered.
        #[source]
        source: Option<tokio_postgres::Error>,
    },
    /// The server is too old.
    #[error("migrate: the server is PostgreSQL {found}; Kindler needs 13 or newer")]
    ServerTooOld {
        /// The server's version.
        found: String,
    },
    /// The schema is newer than this release.
    #[error(
        "migrate: the schema is at version {found}, newer than this release knows \
         ({SCHEMA_VERSION}): use the newer release"
    )]
    SchemaTooNew {
        /// The schema version of the database.
        found: i32,
    },
    /// There is no schema for the tables.
    #[error("migrate: search_path names no schema: create one, or set search_path for this role")]
    NoSchema,
    /// The schema of the tables was renamed, and search_path does not name it.
    #[error(
        "migrate: the schema of Kindler's tables was renamed to {schema}, and search_path does not \
         name it, so nothing was changed: a migration would create a second set of tables; next: \
         ALTER ROLE … SET search_path = {schema} for each role of Kindler, then `kindler migrate`"
    )]
    Renamed {
        /// The schema that has the tables.
        schema: String,
    },
    /// Tables of a current schema do not exist.
    #[error("migrate: {what}, and nothing was changed; next: {next}")]
    TablesMissing {
        /// Which.
        what: String,
        /// What a person does about it.
        next: &'static str,
    },
    /// Others kept the tables locked.
    #[error(
        "migrate: the tables stayed locked for {LOCKED_WITHIN:?} and nothing was changed; {}; \
         next: end that session or transaction, or wait for it, and run `kindler migrate` again",
        held_by(holders)
    )]
    Locked {
        /// Who holds locks on them, longest first.
        holders: Vec<Blocker>,
    },
    /// The deadline passed.
    #[error("migrate: not finished within {0:?}; nothing was changed")]
    Late(Duration),
}

/// The result of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The schema that the tables are in.
    pub schema: String,
    /// The applied versions, in order; empty if the schema was current.
    pub applied: Vec<i32>,
    /// The triggers, constraints and functions that were restored, each with what was wrong.
    pub restored: Vec<String>,
    /// The constraints that stay absent, because rows break them.
    pub broken: Vec<String>,
}

/// Migrates a database to [`SCHEMA_VERSION`], and restores Kindler's own triggers, constraints
/// and functions. Safe to repeat and to run concurrently; an existing `clusters` table is taken
/// over with its rows. Logs who makes it wait.
///
/// # Errors
/// [`MigrateError`]; the database is then unchanged.
pub async fn migrate(database: &Database) -> Result<Migrated, MigrateError> {
    migrate_reporting(database, |reason| warn!(reason, "the migration waits")).await
}

/// As [`migrate`]; calls `report` with who makes it wait, whenever that changes.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_reporting(
    database: &Database,
    report: impl Fn(&str),
) -> Result<Migrated, MigrateError> {
    let work = async {
        let mut client = database
            .connect()
            .await
            .map_err(|error| MigrateError::Unreachable(database.explain(error)))?;
        check_server(&client).await?;
        let giving_up = Instant::now() + LOCKED_WITHIN;
        let mut reported = Vec::new();
        loop {
            match attempt(&mut client).await {
                Ok(migrated) => return Ok(migrated),
                Err(MigrationAttempt::Failed(error)) => return Err(error),
                Err(MigrationAttempt::Locked) => {}
            }
            let holders = blockers(&client, &TABLES).await;
            let holders =
                holders.map_err(|error| MigrateError::Unreachable(NoConnection::Refused(error)))?;
            if Instant::now() > giving_up {
                return Err(MigrateError::Locked { holders });
            }
            if reported != holders && !holders.is_empty() {
                report(&held_by(&holders));
                reported = holders;
            }
            tokio::time::sleep(NEXT_ATTEMPT).await;
        }
    };
    tokio::time::timeout(DEADLINE, work)
        .await
        .unwrap_or(Err(MigrateError::Late(DEADLINE)))
}

/// Who holds locks, for people.
fn held_by(holders: &[Blocker]) -> String {
    let named: Vec<_> = holders.iter().map(ToString::to_string).collect();
    match named.is_empty() {
        true => "the sessions that held locks ended meanwhile".to_owned(),
        false => format!("locks are held by {}", named.join(", ")),
    }
}

/// Why an attempt changed nothing.
pub(super) enum MigrationAttempt {
    /// Others hold locks; another attempt may succeed.
    Locked,
    Failed(MigrateError),
}

impl From<MigrateError> for MigrationAttempt {
    fn from(error: MigrateError) -> Self {
        Self::Failed(error)
    }
}

/// The error of an operation of the migration.
pub(super) fn during(operation: &str) -> impl FnOnce(tokio_postgres::Error) -> MigrateError {
    let operation = operation.to_owned();
    move |source| MigrateError::Operation {
        answer: answer(&source),
        operation,
        denied: source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE),
        source: source.as_db_error().is_none().then_some(source),
    }
}

/// The same, if it is not that others hold a lock.
pub(super) fn unless_locked(
    operation: &str,
) -> impl FnOnce(tokio_postgres::Error) -> MigrationAttempt {
    let failed = during(operation);
    move |source| match is_lock_timeout(&source) {
        true => MigrationAttempt::Locked,
        false => MigrationAttempt::Failed(failed(source)),
    }
}

async fn check_server(client: &Client) -> Result<(), MigrateError> {
    let row = client
        .query_typed_one(
            "SELECT current_setting('server_version_num')::int, version()",
            &[],
        )
        .await
        .map_err(|error| MigrateError::Unreachable(NoConnection::Refused(error)))?;
    if row.get::<_, i32>(0) < OLDEST_SERVER {
        let version: String = row.get(1);
        let found = version
            .split_whitespace()
            .nth(1)
            .unwrap_or("older")
            .to_owned();
        return Err(MigrateError::ServerTooOld { found });
    }
    Ok(())
}

/// Migrates in one transaction, if the locks are free.
async fn attempt(client: &mut Client) -> Result<Migrated, MigrationAttempt> {
    // READ COMMITTED, so that the version is read as other migrators left it.
    let tx = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .await
        .map_err(during("begin"))?;
    let schema = enter_schema(&tx).await?;
    refuse_second_set(&tx).await?;
    let found = read_version(&tx).await?;
    if found > SCHEMA_VERSION {
        return Err(MigrateError::SchemaTooNew { found }.into());
    }
    let missing = MIGRATIONS.iter().filter(|(version, _, _)| *version > found);
    if found < SCHEMA_VERSION {
        let locked = lock_tables(&tx, &TABLES).await;
        locked.map_err(unless_locked("lock the tables"))?;
    }
    let mut applied = Vec::new();
    for (version, name, sql) in missing {
        tx.batch_execute(sql)
            .await
            .map_err(unless_locked(&format!("migration {version} ({name})")))?;
        tx.execute_typed(
            "INSERT INTO kindler_migrations (version, name) VALUES ($1, $2)",
            &[(version, Type::INT4), (name, Type::TEXT)],
        )
        .await
        .map_err(during("write kindler_migrations"))?;
        applied.push(*version);
    }
    let done = restore(&tx, !applied.is_empty()).await?;
    tx.commit().await.map_err(during("commit"))?;
    Ok(Migrated {
        schema,
        applied,
        restored: done.restored,
        broken: done.broken,
    })
}

/// Waits for other migrators, and enters the schema that has the table, else the one where
/// tables are created; never both.
async fn enter_schema(tx: &Transaction<'_>) -> Result<String, MigrateError> {
    tx.batch_execute(&format!(
        "SET LOCAL lock_timeout = '{MIGRATOR_TIMEOUT}'; SET LOCAL statement_timeout = 0; {}",
        dead_client_limits()
    ))
    .await
    .map_err(during("set limits"))?;
    let schema: Option<String> = tx
        .query_typed_one(
            "SELECT coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                              WHERE c.oid = to_regclass('clusters')), current_schema())::text",
            &[],
        )
        .await
        .map_err(during("find the schema"))?
        .get(0);
    let schema = schema.ok_or(MigrateError::NoSchema)?;
    tx.execute_typed(
        "SELECT pg_advisory_xact_lock(hashtextextended('kindler migrates ' || $1, 0))",
        &[(&schema, Type::TEXT)],
    )
    .await
    .map_err(during("wait for other migrators"))?;
    tx.execute_typed(
        "SELECT set_config('search_path', quote_ident($1) || ', pg_temp', true)",
        &[(&schema, Type::TEXT)],
    )
    .await
    .map_err(during("enter the schema"))?;
    Ok(schema)
}

async fn read_version(tx: &Transaction<'_>) -> Result<i32, MigrationAttempt> {
    limit_waits(tx).await.map_err(during("set limits"))?;
    tx.batch_execute(
        "SET LOCAL client_min_messages = warning;
         CREATE TABLE IF NOT EXISTS kindler_migrations (
             version    integer PRIMARY KEY,
             name       text NOT NULL,
             applied_at timestamptz NOT NULL DEFAULT now())",
    )
    .await
    .map_err(unless_locked("create kindler_migrations"))?;
    let version = tx
        .query_typed_one(
            "SELECT coalesce(max(version), 0) FROM kindler_migrations",
            &[],
        )
        .await
        .map_err(unless_locked("read kindler_migrations"))?;
    Ok(version.get(0))
}

/// The server's message with its hint, so that a person can act on it.
fn answer(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => match db.hint() {
            Some(hint) => format!("{}. {hint}", db.message()),
            None => db.message().to_owned(),
        },
        None => "the connection failed".to_owned(),
    }
}
