//! Postgres stops as in a crash, stays away, and comes back; again and again.

use std::time::{Duration, Instant};

use super::{converged, quick, report, rounds, run, spread};
use crate::kit::{Host, PrivateServer, Proxy};

/// How long it stays away.
const AWAY: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_postgres_that_crashes_and_returns_finds_the_work_going_on() {
    let server = PrivateServer::create().await;
    let (database, host) = (server.database().await.migrate().await, Host::new());
    // Who connects is counted outside, also while nobody answers.
    let proxy = Proxy::before(&database).await;
    let daemon = quick(&proxy.url(), &host).spawn();
    daemon.ready().await;
    let (mut recoveries, mut attempts) = (Vec::new(), Vec::new());
    for round in 0..rounds(3, 100) {
        let sql = database.connect().await;
        run(&sql, &format!(
            "INSERT INTO clusters (name, provider) SELECT 'r{round}-' || n, 'kind' FROM generate_series(1, 5) n"
        ))
        .await;
        server.stop_immediate().await;
        let before = proxy.connections();
        // The length of the outage is the fault, not a wait for something.
        tokio::time::sleep(AWAY).await;
        attempts.push(proxy.connections() - before);
        server.start().await;
        let back = Instant::now();
        let sql = database.connect().await;
        run(
            &sql,
            &format!("INSERT INTO clusters (name, provider) VALUES ('after-{round}', 'kind')"),
        )
        .await;
        converged(&sql, &host).await;
        recoveries.push(back.elapsed());
    }
    let slowest = *recoveries.iter().max().unwrap();
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    let most = *attempts.iter().max().unwrap();
    let allowed = 2 * usize::try_from(AWAY.as_secs()).unwrap();
    assert!(most <= allowed, "{most} connections within {AWAY:?}");
    daemon.ready().await;
    report(
        "Postgres stopped at once and away for 10 s",
        &format!(
            "{} times; all done again after {}; at most {most} connections tried while away",
            attempts.len(),
            spread(recoveries)
        ),
    );
}
