//! Migrates a database to the schema of this release. Migrations only add; each is
//! applied once, all in one transaction, under a lock that excludes other migrators.

use std::time::Duration;

use tokio_postgres::{Client, IsolationLevel};

use crate::core::database::{Database, NoConnection};

/// The migrations in order.
const MIGRATIONS: [(i32, &str, &str); 13] = [
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
        "refused",
        include_str!("../../sql/migrations/0013_refused.sql"),
    ),
];

/// The schema that this release needs.
pub const SCHEMA_VERSION: i32 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// The oldest server version that has everything the schema uses (13).
const OLDEST_SERVER: i32 = 130_000;

/// How long to wait for another migrator and for other transactions.
const LOCK_TIMEOUT: &str = "60s";

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
        /// The error of the client library.
        #[source]
        source: tokio_postgres::Error,
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
}

/// Migrates a database to [`SCHEMA_VERSION`]. Safe to repeat and to run concurrently;
/// an existing `clusters` table is taken over with its rows.
///
/// # Errors
/// [`MigrateError`]; the database is then unchanged.
pub async fn migrate(database: &Database) -> Result<Migrated, MigrateError> {
    let work = async {
        let mut client = database
            .connect()
            .await
            .map_err(|error| MigrateError::Unreachable(database.explain(error)))?;
        check_server(&client).await?;
        run(&mut client).await
    };
    tokio::time::timeout(DEADLINE, work)
        .await
        .unwrap_or(Err(MigrateError::Late(DEADLINE)))
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

async fn run(client: &mut Client) -> Result<Migrated, MigrateError> {
    let during = |operation: &str| {
        let operation = operation.to_owned();
        move |source: tokio_postgres::Error| MigrateError::Operation {
            answer: answer(&source),
            operation,
            source,
        }
    };
    // READ COMMITTED, so that the version is read as other migrators left it.
    let tx = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .await
        .map_err(during("begin"))?;
    tx.batch_execute(&format!(
        "SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SET LOCAL statement_timeout = 0"
    ))
    .await
    .map_err(during("set limits"))?;
    // The schema that has the table, else the one where tables are created; never both.
    let schema: Option<String> = tx
        .query_one(
            "SELECT coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                              WHERE c.oid = to_regclass('clusters')), current_schema())::text",
            &[],
        )
        .await
        .map_err(during("find the schema"))?
        .get(0);
    let schema = schema.ok_or(MigrateError::NoSchema)?;
    tx.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('kindler migrates ' || $1, 0))",
        &[&schema],
    )
    .await
    .map_err(during("wait for other migrators"))?;
    tx.execute(
        "SELECT set_config('search_path', quote_ident($1) || ', pg_temp', true)",
        &[&schema],
    )
    .await
    .map_err(during("enter the schema"))?;
    tx.batch_execute(
        "SET LOCAL client_min_messages = warning;
         CREATE TABLE IF NOT EXISTS kindler_migrations (
             version    integer PRIMARY KEY,
             name       text NOT NULL,
             applied_at timestamptz NOT NULL DEFAULT now())",
    )
    .await
    .map_err(during("create kindler_migrations"))?;
    let found: i32 = tx
        .query_one(
            "SELECT coalesce(max(version), 0) FROM kindler_migrations",
            &[],
        )
        .await
        .map_err(during("read kindler_migrations"))?
        .get(0);
    if found > SCHEMA_VERSION {
        return Err(MigrateError::SchemaTooNew { found });
    }
    let mut applied = Vec::new();
    for (version, name, sql) in MIGRATIONS
        .into_iter()
        .filter(|(version, _, _)| *version > found)
    {
        tx.batch_execute(sql)
            .await
            .map_err(during(&format!("migration {version} ({name})")))?;
        tx.execute(
            "INSERT INTO kindler_migrations (version, name) VALUES ($1, $2)",
            &[&version, &name],
        )
        .await
        .map_err(during("write kindler_migrations"))?;
        applied.push(version);
    }
    tx.commit().await.map_err(during("commit"))?;
    Ok(Migrated { schema, applied })
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
