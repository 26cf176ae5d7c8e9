//! Rows whose desired state or spec changes all the time.

use std::time::{Duration, Instant};

use super::{converged, quick, report, rounds};
use crate::kit::{FaultKind, Host, InjectedFault, Proxy, Sql, eventually, migrated};

/// Each row changes every 0 to 5 s: one in 25 at each tenth of a second.
const CHANGE_SOME: &str = "UPDATE clusters
    SET desired_state = (ARRAY['present', 'absent', 'stopped'])[1 + floor(random() * 3)::integer]
    WHERE random() < 0.04";

#[tokio::test]
async fn the_last_declared_state_wins() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 0.3");
    host.control("delete", "sleep 0.1");
    let rows = rounds(100, 1000);
    let sql = database.connect().await;
    let _daemon = quick(&database.url(), &host)
        .set("KINDLER_CONCURRENCY", "16")
        .set("KINDLER_DELETE_CAP", "0")
        .start()
        .await;
    let declare = format!(
        "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, {rows}) n
         ON CONFLICT DO NOTHING"
    );
    sql.run(&declare).await;
    let (began, window) = (Instant::now(), Duration::from_secs(rounds(8, 120) as u64));
    while began.elapsed() < window {
        sql.run(CHANGE_SOME).await;
        // Removed rows are declared again now and then.
        if fastrand::u8(..10) == 0 {
            sql.run(&declare).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let revisions = "SELECT count(*) FROM cluster_revisions";
    let revisions = sql.number(revisions).await;
    let ended = Instant::now();
    eventually(
        Duration::from_secs(60),
        "every absent row removed",
        || async {
            sql.number("SELECT count(*) FROM clusters WHERE desired_state = 'absent'")
                .await
                == 0
        },
    )
    .await;
    converged(&sql, &host).await;
    let took = ended.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    report(
        "frequent changes of the desired state",
        &format!(
            "{rows} rows, {revisions} revisions; converged {:.1} s after the last",
            took.as_secs_f64()
        ),
    );
}

/// The proxy disconnects after the server has executed a statement and before its
/// answer arrives: at any statement, again and again, while rows change.
#[tokio::test]
async fn lost_commit_answers_neither_double_nor_lose_work() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let proxy = Proxy::to(&database).await;
    let _daemon = quick(&proxy.url(), &host).start().await;
    sql.declare_many("c", 10).await;
    let disconnects = rounds(20, 1000);
    for _ in 0..disconnects {
        proxy.inject(InjectedFault {
            at: proxy.statements() + 1 + fastrand::usize(..12),
            after: true,
            kind: FaultKind::Disconnect,
        });
        eventually(Duration::from_secs(60), "the disconnect", || async {
            sql.run("UPDATE clusters SET http_port = 20000 + floor(random() * 900)::integer WHERE random() < 0.2").await;
            proxy.fault_occurred()
        })
        .await;
    }
    converged(&sql, &host).await;
    // Each transition was written once: none starts from a state that had ended.
    let broken = "SELECT count(*) FROM (
        SELECT from_state, lag(to_state) OVER (PARTITION BY cluster_name ORDER BY id) AS before
        FROM cluster_events WHERE kind = 'transition') AS t WHERE before <> from_state";
    assert_eq!(sql.number(broken).await, 0);
    let transitions = "SELECT count(*) FROM cluster_events WHERE kind = 'transition'";
    report(
        "disconnected after COMMIT and before its answer",
        &format!(
            "{disconnects} disconnects, {} transitions, 0 lost, 0 doubled, 0 overlaps",
            sql.number(transitions).await
        ),
    );
}
