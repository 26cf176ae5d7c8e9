//! The live stream: from before the COMMIT of a change by psql until its delta has
//! arrived in an open stream, compared with a bare LISTEN; and 200 streams with 50
//! committed changes a second.
//!
//! All readers are tasks of this process. Changes carry a mark: their number, or with
//! many streams the time before the commit, so that each reader can measure the delay.

use std::time::{Duration, Instant, SystemTime};

use kindler::core::database::Database as Url;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client};

use crate::bare::{self, micros};
use crate::browse::Browser;
use crate::idle::resident_mb;
use crate::kit::{Daemon, Database, Host, PrivateServer, Sql};
use crate::report::{Target, figure, percentile};
use crate::rig::migrated;

const ROUNDS: usize = 300;
const WARM_UP: usize = 30;
/// The pause before each commit.
const REST: Duration = Duration::from_millis(20);
/// Far longer than any delta takes.
const BROKEN_AFTER: Duration = Duration::from_secs(30);

/// The number of streams in the second measurement.
const STREAMS: usize = 200;
const BETWEEN_CHANGES: Duration = Duration::from_millis(20);
const CHANGES: usize = 1000;
/// The changes before the first reading of the memory.
const CHANGES_BEFORE: usize = 200;
/// The changes are spread over this many rows.
const ROWS: usize = 50;
/// The mark of the last change.
const END: i64 = -1;

/// Measures one stream, then many.
pub async fn measure(server: &PrivateServer) {
    let (database, host) = (migrated(server).await, Host::new());
    let daemon = Daemon::with_defaults(&database.url(), &host)
        .set("KINDLER_API_ONLY", "true")
        .start()
        .await;
    let sql = database.connect().await;
    sql.batch_execute(
        "INSERT INTO clusters (name, provider) SELECT 'crowd-' || n, 'kind' FROM generate_series(0, 49) n;
         INSERT INTO clusters (name, provider) VALUES ('watched', 'kind')",
    )
    .await
    .expect("insert");
    one(server, &daemon, &sql).await;
    many(&daemon, &sql).await;
}

/// Alternates between one stream and one bare LISTEN.
async fn one(server: &PrivateServer, daemon: &Daemon, sql: &Client) {
    let mut deltas = follow(daemon).await;
    let bare = server.database().await;
    bare.run(bare::SCHEMA).await;
    let bare_sql = bare.connect().await;
    let mut notifications = listen(&bare).await;
    let (mut kindler_times, mut bare_times) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let mark = i64::try_from(round).expect("few rounds");
        let sent = commit(sql, &change("watched", mark)).await;
        let late = arrived(&mut deltas, mark).await - sent;
        let sent = commit(&bare_sql, &format!("INSERT INTO bare VALUES ('{round}')")).await;
        let notification = timeout(BROKEN_AFTER, notifications.recv()).await;
        let bare_late = notification
            .expect("a notification")
            .expect("an open listener")
            - sent;
        if round >= WARM_UP {
            kindler_times.push(late as f64 / 1e3);
            bare_times.push(bare_late as f64 / 1e3);
        }
    }
    for (kind, times) in [
        ("bare LISTEN", &mut bare_times),
        ("stream", &mut kindler_times),
    ] {
        for (name, share) in [("p50", 0.5), ("p95", 0.95)] {
            let time = percentile(times, share);
            figure(
                &format!("commit to reader, {kind}, {name}"),
                time,
                "ms",
                Target::None,
            );
        }
    }
    let ratio = percentile(&mut kindler_times, 0.5) / percentile(&mut bare_times, 0.5);
    figure(
        "commit to reader, ratio at p50",
        ratio,
        "",
        Target::AtMost(2.0),
    );
}

/// Many streams, and a change every 20 ms.
async fn many(daemon: &Daemon, sql: &Client) {
    let mut readers = Vec::new();
    for _ in 0..STREAMS {
        let mut deltas = follow(daemon).await;
        readers.push(tokio::spawn(async move {
            let mut late = Vec::new();
            while let Some((at, sent)) = deltas.recv().await {
                if sent == END {
                    break;
                }
                late.push((at - sent) as f64 / 1e3);
            }
            late
        }));
    }
    let mut tick = interval(BETWEEN_CHANGES);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (began, mut before) = (Instant::now(), 0.0);
    for changed in 0..CHANGES {
        tick.tick().await;
        let name = format!("crowd-{}", changed % ROWS);
        let sent = micros(SystemTime::now());
        sql.batch_execute(&change(&name, sent))
            .await
            .expect("change");
        if changed == CHANGES_BEFORE {
            before = resident_mb(daemon.pid(), "VmRSS:");
        }
    }
    sql.batch_execute(&change("watched", END))
        .await
        .expect("change");
    let rate = CHANGES as f64 / began.elapsed().as_secs_f64();
    let mut all = Vec::new();
    for reader in readers {
        let late = timeout(BROKEN_AFTER, reader).await.expect("every delta");
        all.extend(late.expect("a running reader"));
    }
    // Two changes of one row before a read become one delta.
    let deltas_per_change = all.len() as f64 / (STREAMS * CHANGES) as f64;
    let grown = resident_mb(daemon.pid(), "VmRSS:") - before;
    figure("200 streams, changes a second", rate, "", Target::None);
    figure(
        "200 streams, deltas for each change",
        deltas_per_change,
        "",
        Target::None,
    );
    for (name, share, target) in [
        ("p50", 0.5, Target::None),
        ("p99", 0.99, Target::AtMost(250.0)),
        ("last", 1.0, Target::None),
    ] {
        let time = percentile(&mut all, share);
        figure(
            &format!("200 streams, a delta is late by, {name}"),
            time,
            "ms",
            target,
        );
    }
    figure(
        "200 streams, memory grown meanwhile",
        grown.max(0.0),
        "MB",
        Target::AtMost(2.0),
    );
}

/// Commits a change after a pause; returns the time before COMMIT was sent.
async fn commit(sql: &Client, change: &str) -> i64 {
    let begun = format!("BEGIN; {change}");
    sql.batch_execute(&begun).await.expect("change");
    sleep(REST).await;
    let at = micros(SystemTime::now());
    sql.batch_execute("COMMIT").await.expect("commit");
    at
}

/// A change with a mark for the readers.
fn change(name: &str, mark: i64) -> String {
    format!(r#"UPDATE clusters SET labels = '{{"mark": "{mark}"}}' WHERE name = '{name}'"#)
}

/// Opens a stream and waits for its snapshot; then returns the time and the mark of
/// each delta.
async fn follow(daemon: &Daemon) -> UnboundedReceiver<(i64, i64)> {
    let (chunks, mut read) = unbounded_channel();
    tokio::spawn(Browser::open(daemon.port()).await.follow(chunks));
    let mut text = String::new();
    while !text.contains("event: synced") {
        let chunk = timeout(BROKEN_AFTER, read.recv()).await;
        let (_, bytes) = chunk.expect("a snapshot").expect("a stream");
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    let (deltas, received) = unbounded_channel();
    tokio::spawn(async move {
        let mut pending = String::new();
        while let Some((at, bytes)) = read.recv().await {
            pending.push_str(&String::from_utf8_lossy(&bytes));
            while let Some((event, rest)) = pending.split_once("\n\n") {
                if let Some(mark) = mark(event)
                    && deltas.send((at, mark)).is_err()
                {
                    return;
                }
                pending = rest.to_owned();
            }
        }
    });
    received
}

/// The mark of a delta; none for another event.
fn mark(event: &str) -> Option<i64> {
    let (_, after) = event.split_once(r#""mark":""#)?;
    after.split_once('"')?.0.parse().ok()
}

/// Waits for the delta of a change; returns its time of arrival.
async fn arrived(deltas: &mut UnboundedReceiver<(i64, i64)>, change: i64) -> i64 {
    loop {
        let delta = timeout(BROKEN_AFTER, deltas.recv()).await;
        let (at, mark) = delta.expect("a delta").expect("an open stream");
        if mark == change {
            return at;
        }
    }
}

/// A bare LISTEN, the baseline.
async fn listen(database: &Database) -> UnboundedReceiver<i64> {
    let (sender, receiver) = unbounded_channel();
    let url = Url::parse(&database.url()).expect("the kit's URL is valid");
    let (client, connection) = url
        .connect_listening(move |message| {
            if let AsyncMessage::Notification(_) = message {
                let _ = sender.send(micros(SystemTime::now()));
            }
        })
        .await
        .expect("connect");
    client.batch_execute("LISTEN bare").await.expect("listen");
    tokio::spawn(async move {
        let _ended = connection.await;
        drop(client);
    });
    receiver
}
