//! No space left: in the daemon's own folder, and where Postgres writes.

use std::path::Path;
use std::time::Duration;

use super::{converged, migrated, number, quick, run};
use crate::kit::{Host, Proxy, Traffic, eventually};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_full_disk_of_postgres_is_waited_out() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let proxy = Proxy::before(&database).await;
    let daemon = quick(&proxy.url(), &host).spawn();
    daemon.ready().await;
    host.control("create", "sleep 0.2");
    run(&sql, "INSERT INTO clusters (name, provider) SELECT 'before-' || n, 'k3d' FROM generate_series(1, 10) n").await;
    eventually(SOON, "commands to run", || async {
        !host.live_commands().is_empty()
    })
    .await;
    proxy.set(Traffic::DiskFull);
    run(
        &sql,
        "INSERT INTO clusters (name, provider) VALUES ('during', 'k3d')",
    )
    .await;
    eventually(SOON, "the reason", || async {
        let (status, body) = daemon.get("/readyz").await?;
        (status == 503 && body.contains("No space left on device")).then_some(())
    })
    .await;
    proxy.set(Traffic::Flows);
    converged(&sql, &host).await;
    daemon.ready().await;
}

#[tokio::test]
async fn a_full_state_folder_costs_logs_and_not_clusters() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let Some(builder) = quick(&database.url(), &host).with_little_space(256) else {
        eprintln!("skipped: mount namespaces are not allowed here (run as root)");
        return;
    };
    host.control("create", "echo a line of output");
    let daemon = builder.spawn();
    daemon.ready().await;
    // Seen through the namespace of the daemon.
    let state = format!("/proc/{}/root{}", daemon.pid(), host.state_dir().display());
    let filler = Path::new(&state).join("filler");
    let full = std::fs::write(&filler, vec![0; 1 << 20]).expect_err("it fits?");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);

    run(
        &sql,
        "INSERT INTO clusters (name, provider) VALUES ('during', 'k3d')",
    )
    .await;
    converged(&sql, &host).await;
    assert_eq!(
        number(&sql, "SELECT failed_attempts::bigint FROM clusters").await,
        0
    );
    let said = daemon.log();
    assert!(said.contains("No space left on device"), "{said}");

    std::fs::remove_file(&filler).unwrap();
    run(
        &sql,
        "INSERT INTO clusters (name, provider) VALUES ('after', 'k3d')",
    )
    .await;
    converged(&sql, &host).await;
    let log = std::fs::read_to_string(Path::new(&state).join("logs/after.log")).unwrap();
    assert!(log.contains("a line of output"), "{log}");
}
