//! The procedure of docs/OPERATIONS.md: a backup is taken, life goes on, and the
//! old backup is restored. Nothing on the host is deleted for it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{print_skipped, succeeds};
use crate::kit::{Daemon, Database, Host, eventually, migrated};

const SOON: Duration = Duration::from_secs(30);

/// What docs/OPERATIONS.md says to do between the restore and the start.
const AFTER_RESTORE: &str = include_str!("../../../sql/after_restore.sql");

/// A client program of Postgres, beside the server's where PATH has none.
fn client(name: &str) -> Option<Command> {
    let beside = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut folders: Vec<PathBuf> = beside
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

async fn is(database: &Database, name: &str, state: &str) {
    let sql =
        format!("SELECT count(*) FROM clusters WHERE name = '{name}' AND actual_state = '{state}'");
    eventually(SOON, &format!("{name} to be {state}"), || async {
        database.value::<i64>(&sql).await == 1
    })
    .await;
}

#[tokio::test]
async fn an_old_backup_deletes_nothing() {
    let (Some(mut dump), Some(mut restore)) = (client("pg_dump"), client("psql")) else {
        return;
    };
    let (database, host) = (migrated().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    let declare =
        |name: &str| format!("INSERT INTO clusters (name, provider) VALUES ('{name}', 'kind')");
    for name in ["kept", "removed-later", "wanted-again"] {
        database.execute(&declare(name)).await;
        is(&database, name, "running").await;
    }
    // At the time of the backup somebody wants this one gone, and it fails.
    host.control("wanted-again.delete", "exit 1");
    let absent = "UPDATE clusters SET desired_state = 'absent' WHERE name = 'wanted-again'";
    database.execute(absent).await;
    is(&database, "wanted-again", "failed").await;
    let backup = host.path().join("backup.sql");
    succeeds(
        dump.args(["--no-owner", "--file"])
            .arg(&backup)
            .arg(database.url()),
    );

    // Life goes on, and the daemon ends before the restore.
    let present = "UPDATE clusters SET desired_state = 'present' WHERE name = 'wanted-again'";
    database.execute(present).await;
    is(&database, "wanted-again", "running").await;
    database.execute(&declare("made-later")).await;
    is(&database, "made-later", "running").await;
    database
        .execute("DELETE FROM clusters WHERE name = 'removed-later'")
        .await;
    eventually(SOON, "the row to go", || async {
        let rows = "SELECT count(*) FROM clusters WHERE name = 'removed-later'";
        database.value::<i64>(rows).await == 0
    })
    .await;
    daemon.stop().await;
    let last_term: i64 = database
        .value("SELECT last_value FROM cluster_lease_terms")
        .await;
    let before = host.journal().len();
    host.release("wanted-again.delete");

    let restored = Database::create().await;
    succeeds(
        restore
            .args(["--quiet", "--set=ON_ERROR_STOP=1", "--file"])
            .arg(&backup)
            .arg(restored.url()),
    );
    restored.execute(AFTER_RESTORE).await;
    let daemon = Daemon::start(&restored, &host).await;
    for name in ["kept", "removed-later"] {
        is(&restored, name, "running").await;
    }
    // Several passes, so that anything that would be done was begun.
    daemon.full_passes(3).await;

    let since = host.journal().split_off(before);
    assert!(
        !since.iter().any(|entry| entry.verb == "delete"),
        "{since:#?}"
    );
    let touched = |name: &str| since.iter().any(|entry| entry.name == name);
    for name in ["kept", "made-later", "wanted-again", "removed-later"] {
        assert_eq!(host.cluster(name).as_deref(), Some("healthy"), "{name}");
    }
    // No row names it, so nobody touches it; this one is held for a person.
    assert!(
        !touched("made-later") && !touched("wanted-again"),
        "{since:#?}"
    );
    // What the backup declares is made again, under terms that were never used.
    assert!(touched("removed-later"), "{since:#?}");
    assert!(
        since.iter().all(|entry| entry.fence > last_term),
        "{since:#?}"
    );
    let held =
        "SELECT paused AND desired_state = 'absent' FROM clusters WHERE name = 'wanted-again'";
    assert!(restored.value::<bool>(held).await);
    // Of leases only the daemon's own, for as long as it looks at a cluster.
    let leases = format!("SELECT count(*) FROM cluster_leases WHERE term <= {last_term}");
    assert_eq!(restored.value::<i64>(&leases).await, 0);
}
