//! A synchronous standby does not answer: the primary answers no commit.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{converged, quick, report, rounds};
use crate::kit::{Host, PrivateServer, Sql, TIMEOUT, eventually};

/// The lease must be longer than the fault.
const LEASE: &str = "10m";

async fn set_standby(sql: &Client, names: &str) {
    let system = "ALTER SYSTEM SET synchronous_standby_names";
    sql.run(&format!("{system} = '{names}'")).await;
    sql.run("SELECT pg_reload_conf()").await;
    sql.wait_text("SHOW synchronous_standby_names", names).await;
}

/// Running creates go on, nothing is claimed, and no sessions pile up on the server.
#[tokio::test]
async fn a_standby_that_does_not_answer_ends_no_create() {
    let fault = Duration::from_secs(rounds(16, 120).try_into().unwrap());
    let server = PrivateServer::create().await;
    let (database, host) = (server.database().await.migrate().await, Host::new());
    let wait = "while [ ! -e \"$here/live/go\" ]; do sleep 0.05; done";
    host.control("c1.create", wait);
    host.control("c2.create", wait);
    let daemon = quick(&database.url(), &host)
        .set("KINDLER_LEASE_TTL", LEASE)
        .start()
        .await;
    let sql = database.connect().await;
    sql.run("SET synchronous_commit = local").await;
    sql.declare_many("c", 2).await;
    host.wait_commands(2).await;

    set_standby(&sql, "nobody").await;
    let began = Instant::now();
    sql.declare("later").await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let mut most = 0;
    eventually(fault * 2, "the end of the fault", || async {
        began.elapsed() > fault
    })
    .await;
    for _ in 0..20 {
        most = most.max(sql.number(waiting).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(most <= 10, "{most} sessions wait: they pile up");
    host.wait_commands(2).await;
    assert!(
        host.started("later").is_empty(),
        "claimed without an answer"
    );
    // Results are written again.
    std::fs::write(host.path().join("live/go"), "").unwrap();
    host.wait_commands(0).await;

    set_standby(&sql, "").await;
    let ended = Instant::now();
    converged(&sql, &host).await;
    let took = ended.elapsed();
    assert!(took < TIMEOUT, "{took:?}");
    for name in ["c1", "c2", "later"] {
        assert_eq!(host.started(name), ["create"], "{}", daemon.log());
    }
    report(
        "a synchronous standby that does not answer",
        &format!(
            "for {} s, at most {most} sessions waited, 0 commands ended; all done {took:.1?} after",
            fault.as_secs()
        ),
    );
    daemon.stop().await;
}
