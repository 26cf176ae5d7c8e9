//! No space is left in the daemon's state folder, or for Postgres.

use std::path::Path;

use super::{converged, quick};
use crate::kit::{Host, Proxy, Sql, TIMEOUT, Traffic, eventually, migrated};

#[tokio::test]
async fn work_continues_after_postgres_had_a_full_disk() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let proxy = Proxy::to(&database).await;
    let daemon = quick(&proxy.url(), &host).start().await;
    host.control("create", "sleep 0.2");
    sql.declare_many("before-", 10).await;
    eventually(TIMEOUT, "running commands", || async {
        !host.live_commands().is_empty()
    })
    .await;
    proxy.set(Traffic::DiskFull);
    sql.declare("during").await;
    daemon.wait_not_ready("No space left on device").await;
    proxy.set(Traffic::Flows);
    converged(&sql, &host).await;
    daemon.ready().await;
}

#[tokio::test]
async fn a_full_state_folder_loses_only_logs() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let Some(builder) = quick(&database.url(), &host).with_state_dir_size(256) else {
        eprintln!("skipped: mount namespaces are not allowed here (run as root)");
        return;
    };
    host.control("create", "echo a line of output");
    let daemon = builder.start().await;
    // The path through the mount namespace of the daemon.
    let state = format!("/proc/{}/root{}", daemon.pid(), host.state_dir().display());
    let filler = Path::new(&state).join("filler");
    let full = std::fs::write(&filler, vec![0; 1 << 20]).expect_err("the file must not fit");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);

    sql.declare("during").await;
    converged(&sql, &host).await;
    assert_eq!(
        sql.number("SELECT failed_attempts::bigint FROM clusters")
            .await,
        0
    );
    let log = daemon.log();
    assert!(log.contains("No space left on device"), "{log}");
    eventually(TIMEOUT, "the full folder in /readyz", || async {
        let (status, body) = daemon.get("/readyz").await?;
        (status == 200 && body.contains("StateFolderFull") && body.contains("df -h")).then_some(())
    })
    .await;
    assert_eq!(
        daemon.metric("kindler_state_folder_usable").await,
        Some(0.0)
    );
    assert_eq!(
        daemon.metric("kindler_state_folder_size_bytes").await,
        Some(256.0 * 1024.0)
    );

    std::fs::remove_file(&filler).unwrap();
    sql.declare("after").await;
    // A change runs the command of the first cluster again.
    sql.run("UPDATE clusters SET http_port = 18999 WHERE name = 'during'")
        .await;
    converged(&sql, &host).await;
    let log = std::fs::read_to_string(Path::new(&state).join("logs/during.log")).unwrap();
    assert!(
        log.contains("blocks of output are missing here: ")
            && log.contains("No space left on device"),
        "{log}"
    );
    let log = std::fs::read_to_string(Path::new(&state).join("logs/after.log")).unwrap();
    assert!(log.contains("a line of output"), "{log}");
}
