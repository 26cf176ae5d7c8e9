//! People who change their minds, all the time and about everything.

use std::time::{Duration, Instant};

use super::{converged, migrated, number, quick, report, rounds, run};
use crate::kit::{Blow, Host, Proxy, Trap, eventually};

/// Each row's mind is changed every 0 to 5 s: one in 25 each tenth of a second.
const FLIP: &str = "UPDATE clusters
    SET desired_state = (ARRAY['present', 'absent', 'stopped'])[1 + floor(random() * 3)::integer]
    WHERE random() < 0.04";

#[tokio::test]
async fn minds_that_change_every_few_seconds_get_what_they_wanted_last() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 0.3");
    host.control("delete", "sleep 0.1");
    let rows = rounds(100, 1000);
    let sql = database.connect().await;
    let daemon = quick(&database.url(), &host)
        .set("KINDLER_CONCURRENCY", "16")
        .set("KINDLER_DELETE_CAP", "0")
        .spawn();
    daemon.ready().await;
    let declare = format!(
        "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, {rows}) n
         ON CONFLICT DO NOTHING"
    );
    run(&sql, &declare).await;
    let (began, flips) = (Instant::now(), Duration::from_secs(rounds(8, 120) as u64));
    while began.elapsed() < flips {
        run(&sql, FLIP).await;
        // Those that went are wanted again, now and then.
        if fastrand::u8(..10) == 0 {
            run(&sql, &declare).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let wishes = "SELECT count(*) FROM cluster_revisions";
    let wishes = number(&sql, wishes).await;
    let ended = Instant::now();
    eventually(Duration::from_secs(60), "the absent ones to go", || async {
        number(
            &sql,
            "SELECT count(*) FROM clusters WHERE desired_state = 'absent'",
        )
        .await
            == 0
    })
    .await;
    converged(&sql, &host).await;
    let took = ended.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    report(
        "changes of mind",
        &format!(
            "{rows} rows, {wishes} wishes; right {:.1} s after the last",
            took.as_secs_f64()
        ),
    );
}

/// A connection is cut after the server has carried out a statement and before
/// it says so: at any statement, again and again, while rows change.
#[tokio::test]
async fn commits_whose_answer_is_lost_double_and_lose_nothing() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let proxy = Proxy::before(&database).await;
    let daemon = quick(&proxy.url(), &host).spawn();
    daemon.ready().await;
    run(
        &sql,
        "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 10) n",
    )
    .await;
    let cuts = rounds(20, 1000);
    for _ in 0..cuts {
        proxy.trap(Trap {
            at: proxy.statements() + 1 + fastrand::usize(..12),
            after: true,
            blow: Blow::Cut,
        });
        eventually(Duration::from_secs(60), "the cut", || async {
            run(&sql, "UPDATE clusters SET http_port = 20000 + floor(random() * 900)::integer WHERE random() < 0.2").await;
            proxy.sprung()
        })
        .await;
    }
    converged(&sql, &host).await;
    // Each transition was written once: none follows from a state it had left.
    let broken = "SELECT count(*) FROM (
        SELECT from_state, lag(to_state) OVER (PARTITION BY cluster_name ORDER BY id) AS before
        FROM cluster_events WHERE kind = 'transition') AS t WHERE before <> from_state";
    assert_eq!(number(&sql, broken).await, 0);
    let transitions = "SELECT count(*) FROM cluster_events WHERE kind = 'transition'";
    report(
        "answers cut off after COMMIT",
        &format!(
            "{cuts} cuts, {} transitions, 0 lost, 0 doubled, 0 overlaps",
            number(&sql, transitions).await
        ),
    );
}
