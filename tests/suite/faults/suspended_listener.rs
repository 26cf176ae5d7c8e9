//! A suspended listener: the server keeps its unread notifications, for all databases
//! in one queue; when the queue is full, every commit that notifies fails. The growth
//! of the queue must be visible, and nothing else may be delayed.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio_postgres::Client;

use super::{converged, quick, report, rounds, spread};
use crate::kit::{Daemon, Host, PrivateServer, Sql, TIMEOUT, eventually};

const USAGE: &str = "kindler_db_notification_queue_usage_ratio";

const RUNBOOK: &str = include_str!("../../../docs/runbooks/notificationqueuefilling.md");

/// Sessions that wait because their client does not read.
const STUCK: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'kindler' AND wait_event = 'ClientWrite'";

/// Notifies until a session is stuck, and this many times more; returns the longest
/// commit.
async fn notify(sql: &Client, often: usize) -> Duration {
    let (mut longest, mut since) = (Duration::ZERO, None);
    let notify = "SELECT pg_notify(kindler_channel('wake'), repeat('x', 7000) || $1::text)";
    let notify = sql.prepare(notify).await.unwrap();
    let giving_up = Instant::now() + TIMEOUT;
    for n in 0.. {
        let began = Instant::now();
        sql.execute(&notify, &[&n.to_string()])
            .await
            .expect("the commit of a user");
        longest = longest.max(began.elapsed());
        if since.is_none() && n % 50 == 0 && sql.number(STUCK).await > 0 {
            since = Some(n);
        }
        if since.is_some_and(|since| n - since >= often) {
            break;
        }
        assert!(since.is_some() || began < giving_up, "no session is stuck");
    }
    longest
}

/// The sessions that the runbook's last statement finds.
async fn sessions_in_the_runbook_query(sql: &Client) -> Vec<String> {
    let (_, rest) = RUNBOOK.rsplit_once("```sql\n").unwrap();
    let (statement, _) = rest.split_once("```").unwrap();
    let rows = sql.query(statement, &[]).await.unwrap();
    rows.iter().map(|row| row.get("application_name")).collect()
}

async fn usage(daemon: &Daemon) -> f64 {
    daemon.metric(USAGE).await.unwrap_or(-1.0)
}

#[tokio::test]
async fn a_suspended_replica_delays_neither_commits_nor_others() {
    // All databases of a server share the queue.
    let server = PrivateServer::create().await;
    let (database, host) = (server.database().await.migrate().await, Host::new());
    let url = database.url();
    let sql = database.connect().await;
    let second = quick(&url, &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .start()
        .await;
    let (mut longest, mut fullest, mut wakeups) = (Duration::ZERO, 0.0_f64, Vec::new());
    for killed in [false, true] {
        let first = quick(&url, &host).start().await;
        first.signal(Signal::STOP);
        longest = longest.max(notify(&sql, rounds(3_000, 80_000)).await);
        for n in 0..5 {
            let name = format!("c-{killed}-{n}");
            let insert = format!("INSERT INTO clusters (name, provider) VALUES ('{name}', 'k3d')");
            let began = Instant::now();
            sql.run(&insert).await;
            longest = longest.max(began.elapsed());
            eventually(TIMEOUT, "the other replica to begin the work", || async {
                !host.started(&name).is_empty()
            })
            .await;
            wakeups.push(began.elapsed());
        }
        // The other listeners have read everything: the rest belongs to the suspended
        // one.
        let stuck = usage(&second).await;
        assert!(stuck > 0.0 && stuck < 1.0, "{stuck}");
        fullest = fullest.max(stuck);
        assert_eq!(sql.number(STUCK).await, 1);
        assert_eq!(sessions_in_the_runbook_query(&sql).await, ["kindler"]);

        if killed {
            first.kill();
            drained(&second).await;
        } else {
            first.signal(Signal::CONT);
            drained(&second).await;
            first.wait_metric("kindler_listen_connected", 1.0).await;
            first.stop().await;
        }
    }
    let slowest = *wakeups.iter().max().unwrap();
    assert!(slowest < Duration::from_secs(2), "after {slowest:?}");
    assert!(
        longest < Duration::from_secs(1),
        "a commit took {longest:?}"
    );
    converged(&sql, &host).await;
    report(
        "a suspended listener",
        &format!(
            "{:.4} of the server's queue full, longest commit {:.3} s, the other replica's wake-ups {}",
            fullest,
            longest.as_secs_f64(),
            spread(wakeups)
        ),
    );
}

async fn drained(daemon: &Daemon) {
    eventually(TIMEOUT, "an empty queue", || async {
        usage(daemon).await == 0.0
    })
    .await;
}
