//! `kindler migrate` is killed at each of its statements: the database is as before or
//! as after, and the next run completes the migration.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use kindler::store::SCHEMA_VERSION;

use super::run_migration;
use super::takeover::{BY_HAND, OLD_TABLE, OLD_VALUES, shape};
use crate::faults::{report, rounds};
use crate::kit::{Database, FaultKind, Host, InjectedFault, Proxy, Sql, kindler};

/// A table of the bash system, with enough rows that the migration takes time.
async fn old() -> Database {
    let database = Database::create().await;
    for statement in [
        OLD_TABLE,
        BY_HAND,
        "INSERT INTO clusters (name, provider, node_port, pf_port, http_port, https_port)
         SELECT 'many-' || n, 'kind', 30000, 20000, 21000, 22000 FROM generate_series(1, 500) n",
    ] {
        database.run(statement).await;
    }
    database
}

fn migrating(proxy: &Proxy, host: &Host) -> Child {
    let mut command = kindler(&proxy.url(), host);
    command.arg("migrate").stdout(Stdio::null());
    command.spawn().unwrap()
}

/// Waits for the end; whether it reports success.
async fn succeeded(mut child: Child) -> bool {
    let giving_up = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        assert!(Instant::now() < giving_up, "it does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The applied versions as text; empty if there are none.
async fn versions(database: &Database) -> String {
    let client = database.connect().await;
    let any = "SELECT (to_regclass('kindler_migrations') IS NOT NULL)::text";
    if client.text(any).await == "false" {
        return String::new();
    }
    client
        .text("SELECT string_agg(version::text, ' ' ORDER BY version) FROM kindler_migrations")
        .await
}

/// The schema after a migration, and the number of its statements.
struct Whole {
    shape: String,
    versions: String,
    statements: usize,
}

async fn uninterrupted() -> Whole {
    let (database, host) = (old().await, Host::new());
    let proxy = Proxy::to(&database).await;
    assert!(succeeded(migrating(&proxy, &host)).await);
    let whole = Whole {
        shape: shape(&database.connect().await).await,
        versions: versions(&database).await,
        statements: proxy.statements(),
    };
    let all: Vec<_> = (1..=SCHEMA_VERSION).map(|n| n.to_string()).collect();
    assert_eq!(whole.versions, all.join(" "));
    whole
}

/// Kills a migration at a statement and checks the database; whether it had committed.
async fn killed_at(at: usize, after: bool, whole: &Whole) -> bool {
    let (database, host) = (old().await, Host::new());
    let client = database.connect().await;
    let (rows, old_shape) = (client.text(OLD_VALUES).await, shape(&client).await);
    let proxy = Proxy::to(&database).await;
    let child = migrating(&proxy, &host);
    proxy.inject(InjectedFault {
        at,
        after,
        kind: FaultKind::Kill(i32::try_from(child.id()).unwrap()),
    });
    assert!(!succeeded(child).await, "it survived statement {at}");
    assert!(proxy.fault_occurred(), "statement {at} never came");
    // The server may still be at the last statement; it ends before others begin.
    let lock = "BEGIN; LOCK TABLE clusters IN ACCESS EXCLUSIVE MODE; COMMIT";
    client.run(lock).await;
    let found = versions(&database).await;
    let committed = !found.is_empty();
    let (steps, form) = if committed {
        (whole.versions.as_str(), &whole.shape)
    } else {
        ("", &old_shape)
    };
    assert_eq!(found, steps, "half of the steps, at {at}");
    assert!(shape(&client).await == *form, "half a schema, at {at}");
    assert_eq!(client.text(OLD_VALUES).await, rows, "at {at}");

    assert_eq!(run_migration(&database).await.applied.is_empty(), committed);
    assert_eq!(versions(&database).await, whole.versions, "at {at}");
    assert!(shape(&client).await == whole.shape, "at {at}");
    assert_eq!(client.text(OLD_VALUES).await, rows, "at {at}");
    let declared = "SELECT count(*) - 503 FROM cluster_revisions";
    assert_eq!(client.number(declared).await, 0, "at {at}");
    committed
}

async fn killed_at_many(after: bool) {
    let whole = uninterrupted().await;
    let last = whole.statements;
    assert!(last > 20, "{last} statements are no migration");
    let step = last.div_ceil(rounds(8, last));
    // Counted from the end, so that the commit is always included.
    let places: Vec<_> = (1..=last).rev().step_by(step).collect();
    let mut committed = 0;
    for at in &places {
        committed += usize::from(killed_at(*at, after, &whole).await);
    }
    assert_eq!(committed, usize::from(after), "the commit alone commits");
    report(
        "a migration is killed",
        &format!(
            "at {} of {last} statements, {}; nothing lost, nothing half done",
            places.len(),
            if after { "after each" } else { "before each" }
        ),
    );
}

#[tokio::test]
async fn a_migration_killed_before_a_statement_changes_nothing() {
    killed_at_many(false).await;
}

#[tokio::test]
async fn a_migration_killed_after_a_statement_is_all_or_nothing() {
    killed_at_many(true).await;
}
