//! The live stream: from before the COMMIT of a change by psql until its delta
//! has arrived in an open stream, against a bare LISTEN; and 200 streams while
//! 50 changes a second are committed.
//!
//! All readers are tasks of this process. Changes carry a mark: their number, or
//! in a crowd the time before they were sent, so that each reader can tell how
//! late they are.

use std::time::{Duration, Instant, SystemTime};

use kindler::core::database::Database as Url;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client};

use crate::bare::{self, micros};
use crate::browse::Browser;
use crate::idle::resident_mb;
use crate::kit::{Daemon, Database, Host, PrivateServer};
use crate::report::{Target, figure, percentile};
use crate::scene::migrated;

const ROUNDS: usize = 300;
const WARM_UP: usize = 30;
/// At rest before each commit.
const REST: Duration = Duration::from_millis(20);
/// Far beyond what anything here takes.
const BROKEN_AFTER: Duration = Duration::from_secs(30);

/// The crowd.
const STREAMS: usize = 200;
const BETWEEN_CHANGES: Duration = Duration::from_millis(20);
const CHANGES: usize = 1000;
/// Those before the memory is looked at for the first time.
const CHANGES_BEFORE: usize = 200;
/// They are spread over so many rows.
const ROWS: usize = 50;
/// The mark of the last one.
const END: i64 = -1;

/// Measures one stream, then many.
pub async fn measure(server: &PrivateServer) {
    let (database, host) = (migrated(server).await, Host::new());
    let daemon = Daemon::with_defaults(&database.url(), &host)
        .set("KINDLER_API_ONLY", "true")
        .spawn();
    daemon.ready().await;
    let sql = database.connect().await;
    sql.batch_execute(
        "INSERT INTO clusters (name, provider) SELECT 'crowd-' || n, 'kind' FROM generate_series(0, 49) n;
         INSERT INTO clusters (name, provider) VALUES ('watched', 'kind')",
    )
    .await
    .expect("insert");
    one(server, &daemon, &sql).await;
    crowd(&daemon, &sql).await;
}

/// One stream against one bare LISTEN, in turn.
async fn one(server: &PrivateServer, daemon: &Daemon, sql: &Client) {
    let mut deltas = follow(daemon).await;
    let bare = server.database().await;
    bare.execute(bare::SCHEMA).await;
    let bare_sql = bare.connect().await;
    let mut rings = listen(&bare).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let mark = i64::try_from(round).expect("few rounds");
        let sent = commit(sql, &change("watched", mark)).await;
        let late = arrived(&mut deltas, mark).await - sent;
        let sent = commit(&bare_sql, &format!("INSERT INTO bare VALUES ('{round}')")).await;
        let rung = timeout(BROKEN_AFTER, rings.recv()).await;
        let bare_late = rung.expect("a ring comes").expect("it listens") - sent;
        if round >= WARM_UP {
            ours.push(late as f64 / 1e3);
            theirs.push(bare_late as f64 / 1e3);
        }
    }
    for (who, times) in [("bare LISTEN", &mut theirs), ("stream", &mut ours)] {
        for (name, share) in [("p50", 0.5), ("p95", 0.95)] {
            let time = percentile(times, share);
            figure(
                &format!("commit to reader, {who}, {name}"),
                time,
                "ms",
                Target::None,
            );
        }
    }
    let ratio = percentile(&mut ours, 0.5) / percentile(&mut theirs, 0.5);
    figure(
        "commit to reader, ratio at p50",
        ratio,
        "",
        Target::AtMost(2.0),
    );
}

/// Many streams, and a change every 20 ms.
async fn crowd(daemon: &Daemon, sql: &Client) {
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
        let late = timeout(BROKEN_AFTER, reader)
            .await
            .expect("every delta comes");
        all.extend(late.expect("a reader lives"));
    }
    // Two changes of one row before it was read are one delta.
    let heard = all.len() as f64 / (STREAMS * CHANGES) as f64;
    let grown = resident_mb(daemon.pid(), "VmRSS:") - before;
    figure("200 streams, changes a second", rate, "", Target::None);
    figure(
        "200 streams, deltas for each change",
        heard,
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

/// Changes after a rest; the time before COMMIT was sent.
async fn commit(sql: &Client, change: &str) -> i64 {
    let begun = format!("BEGIN; {change}");
    sql.batch_execute(&begun).await.expect("change");
    sleep(REST).await;
    let at = micros(SystemTime::now());
    sql.batch_execute("COMMIT").await.expect("commit");
    at
}

/// A change that carries a mark to every reader.
fn change(name: &str, mark: i64) -> String {
    format!(r#"UPDATE clusters SET labels = '{{"mark": "{mark}"}}' WHERE name = '{name}'"#)
}

/// Opens a stream and waits for its snapshot: from then on each delta, as when
/// it came and its mark.
async fn follow(daemon: &Daemon) -> UnboundedReceiver<(i64, i64)> {
    let (chunks, mut read) = unbounded_channel();
    tokio::spawn(Browser::open(daemon.port()).await.follow(chunks));
    let mut text = String::new();
    while !text.contains("event: synced") {
        let chunk = timeout(BROKEN_AFTER, read.recv()).await;
        let (_, bytes) = chunk.expect("a snapshot comes").expect("a stream");
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

/// The mark that a delta carries, if it is one.
fn mark(event: &str) -> Option<i64> {
    let (_, after) = event.split_once(r#""mark":""#)?;
    after.split_once('"')?.0.parse().ok()
}

/// Waits for the delta of a change: when it came.
async fn arrived(deltas: &mut UnboundedReceiver<(i64, i64)>, change: i64) -> i64 {
    loop {
        let delta = timeout(BROKEN_AFTER, deltas.recv()).await;
        let (at, mark) = delta.expect("a delta comes").expect("the stream is open");
        if mark == change {
            return at;
        }
    }
}

/// The least that could hear of a commit.
async fn listen(database: &Database) -> UnboundedReceiver<i64> {
    let (rings, rung) = unbounded_channel();
    let url = Url::parse(&database.url()).expect("the kit's URL is valid");
    let (client, connection) = url
        .connect_listening(move |message| {
            if let AsyncMessage::Notification(_) = message {
                let _ = rings.send(micros(SystemTime::now()));
            }
        })
        .await
        .expect("connect");
    client.batch_execute("LISTEN bare").await.expect("listen");
    tokio::spawn(async move {
        let _ended = connection.await;
        drop(client);
    });
    rung
}
