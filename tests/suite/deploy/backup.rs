//! The procedure of docs/OPERATIONS.md: a backup is taken, changes follow, and the old
//! backup is restored. The restore deletes no cluster.

use std::path::PathBuf;
use std::process::Command;

use super::{print_skipped, succeeds};
use crate::kit::{Daemon, Database, Host, Sql, TIMEOUT, eventually, kindler_output, migrated};

/// The script that docs/OPERATIONS.md runs between the restore and the start.
const AFTER_RESTORE: &str = include_str!("../../../sql/after_restore.sql");

/// A client program of Postgres, from the server's folder if PATH has none.
fn client(name: &str) -> Option<Command> {
    let server_folders = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut folders: Vec<PathBuf> = server_folders
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    folders.sort();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&on_path));
    let mut found = folders.into_iter().rev().map(|folder| folder.join(name));
    let found = found.find(|path| path.is_file());
    if found.is_none() {
        print_skipped(&format!("{name} is not installed"));
    }
    found.map(Command::new)
}

#[tokio::test]
async fn an_old_backup_deletes_nothing() {
    let (Some(mut dump), Some(mut restore)) = (client("pg_dump"), client("psql")) else {
        return;
    };
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    for name in ["kept", "removed-later", "undeleted"] {
        sql.declare(name).await;
        sql.wait_state(name, "present running").await;
    }
    // At the time of the backup this cluster is declared absent, and its delete fails.
    host.control("undeleted.delete", "exit 1");
    sql.desire("undeleted", "absent").await;
    sql.wait_state("undeleted", "absent failed").await;
    let backup = host.path().join("backup.sql");
    succeeds(
        dump.args(["--no-owner", "--file"])
            .arg(&backup)
            .arg(database.url()),
    );

    // Changes after the backup; the daemon ends before the restore.
    sql.desire("undeleted", "present").await;
    sql.wait_state("undeleted", "present running").await;
    sql.declare("created-later").await;
    sql.wait_state("created-later", "present running").await;
    sql.run("DELETE FROM clusters WHERE name = 'removed-later'")
        .await;
    sql.wait_state("removed-later", "gone").await;
    daemon.stop().await;
    let last_term = sql
        .number("SELECT last_value FROM cluster_lease_terms")
        .await;
    let before = host.journal().len();
    host.release("undeleted.delete");

    let restored = Database::create().await;
    succeeds(
        restore
            .args(["--quiet", "--set=ON_ERROR_STOP=1", "--file"])
            .arg(&backup)
            .arg(restored.url()),
    );
    let sql = restored.connect().await;
    sql.run(AFTER_RESTORE).await;
    let daemon = Daemon::start(&restored, &host).await;
    for name in ["kept", "removed-later"] {
        sql.wait_state(name, "present running").await;
    }
    // Several passes, so that all due work has begun.
    daemon.full_passes(3).await;

    let since = host.journal().split_off(before);
    assert!(
        !since.iter().any(|entry| entry.verb == "delete"),
        "{since:#?}"
    );
    let touched = |name: &str| since.iter().any(|entry| entry.name == name);
    for name in ["kept", "created-later", "undeleted", "removed-later"] {
        assert_eq!(host.cluster(name).as_deref(), Some("healthy"), "{name}");
    }
    // One has no row, and the other is paused until a person decides.
    assert!(
        !touched("created-later") && !touched("undeleted"),
        "{since:#?}"
    );
    // The declared one is created again, under terms that were never used.
    assert!(touched("removed-later"), "{since:#?}");
    assert!(
        since.iter().all(|entry| entry.fence > last_term),
        "{since:#?}"
    );
    let paused =
        "SELECT paused AND desired_state = 'absent' FROM clusters WHERE name = 'undeleted'";
    assert!(restored.value::<bool>(paused).await);
    // Only the daemon's own leases, while it checks a cluster.
    let leases = format!("SELECT count(*) FROM cluster_leases WHERE term <= {last_term}");
    assert_eq!(sql.number(&leases).await, 0);
}

/// A host with three clusters at the time of a backup, and what changed after it, until the
/// backup is restored in place: the largest term, and the length of the journal.
async fn restored_in_place(database: &Database, host: &Host) -> Option<(i64, usize)> {
    let (mut dump, mut restore) = (client("pg_dump")?, client("pg_restore")?);
    let daemon = Daemon::start(database, host).await;
    let sql = database.connect().await;
    for name in ["kept", "removed-later", "undeleted"] {
        sql.declare(name).await;
        sql.wait_state(name, "present running").await;
    }
    host.control("undeleted.delete", "exit 1");
    sql.desire("undeleted", "absent").await;
    sql.wait_state("undeleted", "absent failed").await;
    let backup = host.path().join("kindler.dump");
    let arguments = ["--no-owner", "--format=custom", "--file"];
    succeeds(dump.args(arguments).arg(&backup).arg(database.url()));

    sql.desire("undeleted", "present").await;
    sql.wait_state("undeleted", "present running").await;
    sql.declare("created-later").await;
    sql.wait_state("created-later", "present running").await;
    sql.run("DELETE FROM clusters WHERE name = 'removed-later'")
        .await;
    sql.wait_state("removed-later", "gone").await;
    // Its next heartbeat has seen every term.
    daemon.full_passes(4).await;
    daemon.stop().await;
    let last = sql
        .number("SELECT last_value FROM cluster_lease_terms")
        .await;
    host.release("undeleted.delete");
    let arguments = ["--clean", "--if-exists", "--no-owner", "--dbname"];
    succeeds(restore.args(arguments).arg(database.url()).arg(&backup));
    Some((last, host.journal().len()))
}

/// What `kindler status` says.
fn status(database: &Database, host: &Host) -> String {
    kindler_output(&database.url(), host, &["status"]).0
}

#[tokio::test]
async fn a_restore_without_its_script_is_found_at_start() {
    let (database, host) = (migrated().await, Host::new());
    let Some((last, before)) = restored_in_place(&database, &host).await else {
        return;
    };
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    for name in ["kept", "removed-later"] {
        sql.wait_state(name, "present running").await;
    }
    daemon.full_passes(3).await;

    let since = host.journal().split_off(before);
    assert!(
        !since.iter().any(|entry| entry.verb == "delete"),
        "{since:#?}"
    );
    assert!(
        since.iter().any(|entry| entry.name == "removed-later"),
        "{since:#?}"
    );
    assert!(since.iter().all(|entry| entry.fence > last), "{since:#?}");
    assert_eq!(sql.state("undeleted").await, "absent running");
    for name in ["kept", "created-later", "undeleted", "removed-later"] {
        assert_eq!(host.cluster(name).as_deref(), Some("healthy"), "{name}");
    }
    let paused = "SELECT string_agg(name, ',') FROM clusters WHERE paused";
    assert_eq!(sql.text(paused).await, "undeleted");
    let by_daemon =
        "SELECT count(*) FROM cluster_events WHERE kind = 'paused' AND actor LIKE 'kindler@%'";
    assert_eq!(sql.number(by_daemon).await, 1);
    eventually(TIMEOUT, "the status that names what was found", || async {
        let status = status(&database, &host);
        status.contains("the database has gone back")
            && status.contains("they say absent: undeleted")
            && status.contains("without a row: created-later")
    })
    .await;

    // It is handled once.
    daemon.stop().await;
    let daemon = Daemon::start(&database, &host).await;
    assert!(!daemon.log().contains("gone back"), "{}", daemon.log());
    let raised = sql
        .number("SELECT last_value FROM cluster_lease_terms")
        .await;
    assert!(raised < last + 1_000_001_000, "{raised}");
}

#[tokio::test]
async fn a_locked_row_does_not_stop_the_pauses_after_a_restore() {
    let (database, host) = (migrated().await, Host::new());
    let Some((_, before)) = restored_in_place(&database, &host).await else {
        return;
    };
    let (sql, holder) = (database.connect().await, database.connect().await);
    holder
        .run("BEGIN; SELECT FROM clusters WHERE name = 'undeleted' FOR UPDATE")
        .await;
    let daemon = Daemon::builder(&database.url(), &host).spawn();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    eventually(TIMEOUT, "the pause waits for the row", || async {
        sql.number(waiting).await > 0
    })
    .await;
    // The first attempt fails at its lock timeout.
    sql.wait_number(waiting, 0).await;
    holder.run("ROLLBACK").await;
    daemon.ready().await;
    daemon.full_passes(3).await;
    assert_eq!(sql.state("undeleted").await, "absent running");
    let paused = "SELECT string_agg(name, ',') FROM clusters WHERE paused";
    assert_eq!(sql.text(paused).await, "undeleted");
    let since = host.journal().split_off(before);
    let deletes = since.iter().filter(|entry| entry.verb == "delete").count();
    assert_eq!(deletes, 0, "{since:#?}");
}

#[tokio::test]
async fn after_the_script_only_clusters_without_a_row_are_named() {
    let (database, host) = (migrated().await, Host::new());
    if restored_in_place(&database, &host).await.is_none() {
        return;
    }
    let sql = database.connect().await;
    sql.run(AFTER_RESTORE).await;
    let daemon = Daemon::start(&database, &host).await;
    eventually(TIMEOUT, "the cluster without a row", || async {
        status(&database, &host).contains("without a row: created-later")
    })
    .await;
    assert!(daemon.log().contains("the database was restored"));
}

/// A heartbeat raises the terms later than the first claim could run.
#[tokio::test]
async fn nothing_is_claimed_before_terms_are_raised() {
    let (database, host) = (migrated().await, Host::new());
    let _daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    let running = "SELECT count(*) FROM clusters WHERE actual_state = 'running'";
    sql.declare_many("c", 5).await;
    sql.wait_number(running, 5).await;
    let issued = sql
        .number("SELECT last_value FROM cluster_lease_terms")
        .await;
    eventually(TIMEOUT, "a heartbeat that has seen the terms", || async {
        let mut files = std::fs::read_dir(host.state_dir().join("terms")).unwrap();
        files.any(|file| {
            let seen = std::fs::read_to_string(file.unwrap().path()).unwrap();
            seen.trim().parse::<i64>().is_ok_and(|seen| seen >= issued)
        })
    })
    .await;
    sql.run(
        "SELECT setval('cluster_lease_terms', 1);
         INSERT INTO clusters (name, provider) SELECT 'd' || n, 'kind' FROM generate_series(1, 5) n",
    )
    .await;
    sql.wait_number(running, 10).await;
    let fences = host.journal().into_iter();
    let fences = fences.filter(|entry| entry.what == "start");
    let (before, after): (Vec<_>, Vec<_>) = fences.partition(|entry| entry.name.starts_with('c'));
    let highest = before.iter().map(|entry| entry.fence).max().unwrap();
    assert!(
        after.iter().all(|entry| entry.fence > highest),
        "{after:#?}"
    );
}

/// Restored under a running daemon, against the instructions.
#[tokio::test]
async fn a_running_daemon_raises_terms_that_went_back() {
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.declare_many("c", 5).await;
    sql.wait_number(
        "SELECT count(*) FROM clusters WHERE actual_state = 'running'",
        5,
    )
    .await;
    daemon.full_passes(4).await;
    sql.run("SELECT setval('cluster_lease_terms', 1)").await;
    eventually(TIMEOUT, "the raised terms", || async {
        sql.number("SELECT last_value FROM cluster_lease_terms")
            .await
            > 1_000_000_000
    })
    .await;
    drop(daemon);
}
