//! Postgres crashes, stays down, and comes back, again and again.

use std::time::{Duration, Instant};

use super::{converged, quick, report, rounds, spread};
use crate::kit::{Host, PrivateServer, Proxy, Sql};

/// The length of an outage.
const OUTAGE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn work_continues_after_each_postgres_crash() {
    let server = PrivateServer::create().await;
    let (database, host) = (server.database().await.migrate().await, Host::new());
    // The proxy counts connection attempts, also while Postgres is down.
    let proxy = Proxy::to(&database).await;
    let daemon = quick(&proxy.url(), &host).start().await;
    let (mut recoveries, mut attempts, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds(3, 100) {
        let sql = database.connect().await;
        sql.declare_many(&format!("r{round}-"), 20).await;
        server.stop_immediate().await;
        let (before, worked) = (proxy.connections(), cpu_seconds(daemon.pid()));
        // The outage itself, not a wait for a condition.
        tokio::time::sleep(OUTAGE).await;
        attempts.push(proxy.connections() - before);
        busy.push(cpu_seconds(daemon.pid()) - worked);
        server.start().await;
        let back = Instant::now();
        let sql = database.connect().await;
        sql.declare(&format!("after-{round}")).await;
        converged(&sql, &host).await;
        recoveries.push(back.elapsed());
    }
    let slowest = *recoveries.iter().max().unwrap();
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    let most = *attempts.iter().max().unwrap();
    let allowed = 2 * usize::try_from(OUTAGE.as_secs()).unwrap();
    assert!(most <= allowed, "{most} connections within {OUTAGE:?}");
    // Waiting needs little CPU: some hundredths of a second in a debug build.
    let busiest = busy.into_iter().fold(0.0, f64::max);
    assert!(busiest < 1.0, "{busiest} s of CPU within {OUTAGE:?}");
    daemon.ready().await;
    report(
        "Postgres crashed and down for 10 s",
        &format!(
            "{} times; converged after {}; at most {most} connection attempts while it was down, and {busiest:.2} s of CPU",
            attempts.len(),
            spread(recoveries)
        ),
    );
}

/// The CPU time of a process, without its children.
fn cpu_seconds(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may contain blanks; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: Vec<f64> = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse().unwrap())
        .collect();
    ticks.iter().sum::<f64>() / rustix::param::clock_ticks_per_second() as f64
}
