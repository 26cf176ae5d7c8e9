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
    let (mut recoveries, mut attempts, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds(3, 100) {
        let sql = database.connect().await;
        run(&sql, &format!(
            "INSERT INTO clusters (name, provider) SELECT 'r{round}-' || n, 'kind' FROM generate_series(1, 20) n"
        ))
        .await;
        server.stop_immediate().await;
        let (before, worked) = (proxy.connections(), cpu_seconds(daemon.pid()));
        // The length of the outage is the fault, not a wait for something.
        tokio::time::sleep(AWAY).await;
        attempts.push(proxy.connections() - before);
        busy.push(cpu_seconds(daemon.pid()) - worked);
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
    // Waiting is no work: a debug build needs some hundredths of a second.
    let busiest = busy.into_iter().fold(0.0, f64::max);
    assert!(busiest < 1.0, "{busiest} s of CPU within {AWAY:?}");
    daemon.ready().await;
    report(
        "Postgres stopped at once and away for 10 s",
        &format!(
            "{} times; all done again after {}; at most {most} connections tried while away, and {busiest:.2} s of CPU",
            attempts.len(),
            spread(recoveries)
        ),
    );
}

/// How long a process has worked, its children aside.
fn cpu_seconds(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold blanks; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: Vec<f64> = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse().unwrap())
        .collect();
    ticks.iter().sum::<f64>() / rustix::param::clock_ticks_per_second() as f64
}
