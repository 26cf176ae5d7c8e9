//! A listener that stands still: the server keeps for it what it does not read,
//! for all databases in one queue, and when that is full every commit that
//! notifies fails. A replica that is stopped must not let it come to that
//! unseen, and holds up nobody until then.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio_postgres::Client;

use super::{converged, number, quick, report, rounds, run, spread};
use crate::kit::{Daemon, Host, PrivateServer, eventually};

const SOON: Duration = Duration::from_secs(20);

const USAGE: &str = "kindler_db_notification_queue_usage_ratio";

const RUNBOOK: &str = include_str!("../../../docs/runbooks/notificationqueuefilling.md");

/// The sessions that cannot get rid of what they have for their client.
const STUCK: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'kindler' AND wait_event = 'ClientWrite'";

/// Notifies until a session is stuck, and so often besides; the longest commit.
async fn notify(sql: &Client, often: usize) -> Duration {
    let (mut longest, mut since) = (Duration::ZERO, None);
    let notify = "SELECT pg_notify(kindler_channel('wake'), repeat('x', 7000) || $1::text)";
    let notify = sql.prepare(notify).await.unwrap();
    let giving_up = Instant::now() + SOON;
    for n in 0.. {
        let began = Instant::now();
        sql.execute(&notify, &[&n.to_string()])
            .await
            .expect("a commit of a user");
        longest = longest.max(began.elapsed());
        if since.is_none() && n % 50 == 0 && number(sql, STUCK).await > 0 {
            since = Some(n);
        }
        if since.is_some_and(|since| n - since >= often) {
            break;
        }
        assert!(since.is_some() || began < giving_up, "no session is stuck");
    }
    longest
}

/// Whom the runbook's last statement finds.
async fn found_by_the_runbook(sql: &Client) -> Vec<String> {
    let (_, rest) = RUNBOOK.rsplit_once("```sql\n").unwrap();
    let (statement, _) = rest.split_once("```").unwrap();
    let rows = sql.query(statement, &[]).await.unwrap();
    rows.iter().map(|row| row.get("application_name")).collect()
}

async fn usage(daemon: &Daemon) -> f64 {
    daemon.metric(USAGE).await.unwrap_or(-1.0)
}

#[tokio::test]
async fn a_replica_that_stands_still_holds_up_neither_commits_nor_the_others() {
    // The queue is the whole server's.
    let server = PrivateServer::create().await;
    let (database, host) = (server.database().await.migrate().await, Host::new());
    let url = database.url();
    let sql = database.connect().await;
    let second = quick(&url, &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .spawn();
    second.ready().await;
    let (mut longest, mut fullest, mut wakeups) = (Duration::ZERO, 0.0_f64, Vec::new());
    for killed in [false, true] {
        let first = quick(&url, &host).spawn();
        first.ready().await;
        first.signal(Signal::STOP);
        longest = longest.max(notify(&sql, rounds(3_000, 80_000)).await);
        for n in 0..5 {
            let name = format!("c-{killed}-{n}");
            let insert = format!("INSERT INTO clusters (name, provider) VALUES ('{name}', 'k3d')");
            let began = Instant::now();
            run(&sql, &insert).await;
            longest = longest.max(began.elapsed());
            eventually(SOON, "the other replica to begin it", || async {
                !host.started(&name).is_empty()
            })
            .await;
            wakeups.push(began.elapsed());
        }
        // Whoever reads has read everything: what is left is the first one's.
        let stuck = usage(&second).await;
        assert!(stuck > 0.0 && stuck < 1.0, "{stuck}");
        fullest = fullest.max(stuck);
        assert_eq!(number(&sql, STUCK).await, 1);
        assert_eq!(found_by_the_runbook(&sql).await, ["kindler"]);

        if killed {
            first.kill();
            drained(&second).await;
        } else {
            first.signal(Signal::CONT);
            drained(&second).await;
            eventually(SOON, "it to listen again", || async {
                first.metric("kindler_listen_connected").await == Some(1.0)
            })
            .await;
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
        "a listener that stands still",
        &format!(
            "{:.4} of the server's queue full, longest commit {:.3} s, the other replica's wake-ups {}",
            fullest,
            longest.as_secs_f64(),
            spread(wakeups)
        ),
    );
}

async fn drained(daemon: &Daemon) {
    eventually(SOON, "the queue to be empty", || async {
        usage(daemon).await == 0.0
    })
    .await;
}
