//! The event stream: all clusters, then every change, also after an outage of
//! the database.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::client::Events;
use super::{Client, SOON, Site, quiet_site, site};
use crate::kit::{Daemon, Host, PrivateServer, Sql, eventually};

/// Reads until `synced`: the names of the snapshot, and the last id.
async fn opened(events: &mut Events) -> (Vec<String>, String) {
    let mut names = Vec::new();
    loop {
        let event = events.next().await.expect("an open stream");
        match event.kind.as_str() {
            "snapshot" => {
                let rows = event.json()["clusters"].as_array().unwrap().clone();
                names.extend(
                    rows.iter()
                        .map(|row| row["name"].as_str().unwrap().to_owned()),
                );
            }
            "synced" => {
                let total = event.json()["total"].as_u64().unwrap();
                assert_eq!(usize::try_from(total).unwrap(), names.len());
                return (names, event.id.expect("an id"));
            }
            other => panic!("{other} before synced"),
        }
    }
}

/// Reads until an upsert of this cluster has this value.
async fn until_upsert(events: &mut Events, name: &str, field: &str, value: &str) -> Value {
    let seen = async {
        loop {
            let row = events.until("upsert").await.json();
            if row["name"] == name && row[field] == value {
                return row;
            }
        }
    };
    // Health checks send upserts, so the deadline of `next` is not enough.
    let seen = tokio::time::timeout(SOON, seen).await;
    seen.unwrap_or_else(|_| panic!("no upsert of {name} with {field} {value}"))
}

#[tokio::test]
async fn a_stream_has_all_clusters_and_then_every_change() {
    let site = site().await;
    site.declare("first").await;
    site.until("first", "actual_state", "running").await;
    let mut events = site.http.events("/api/stream", None).await;
    let (names, _) = opened(&mut events).await;
    assert_eq!(names, ["first"]);
    // Changes by SQL, by the daemon, by the API, and the removal.
    site.sql
        .run("INSERT INTO clusters (name, provider) VALUES ('dev', 'kind')")
        .await;
    // The daemon may act before the first read, so in any state.
    until_upsert(&mut events, "dev", "provider", "kind").await;
    until_upsert(&mut events, "dev", "actual_state", "running").await;
    site.http
        .patch(
            "/api/clusters/dev",
            serde_json::json!({"labels": {"env": "x"}}),
        )
        .await
        .is(200);
    let row = loop {
        let row = events.until("upsert").await.json();
        if row["labels"]["env"] == "x" {
            break row;
        }
    };
    assert_eq!(row["name"], "dev");
    site.http.delete("/api/clusters/dev").await.is(202);
    let removed = events.until("remove").await.json();
    assert_eq!(removed, serde_json::json!({ "name": "dev" }));
}

#[tokio::test]
async fn a_change_by_psql_arrives_within_milliseconds() {
    let site = quiet_site().await;
    site.sql.declare("dev").await;
    let mut events = site.http.events("/api/stream", None).await;
    opened(&mut events).await;
    // The first reads need no notification; later ones are this fast only with one.
    notified(&site, &mut events).await;
    let mut times = Vec::new();
    for port in 20000..20020 {
        let began = Instant::now();
        site.sql
            .run(&format!("UPDATE clusters SET http_port = {port}"))
            .await;
        loop {
            if events.until("upsert").await.json()["http_port"] == port {
                break;
            }
        }
        times.push(began.elapsed());
    }
    times.sort();
    assert!(times[10] < Duration::from_millis(100), "{times:?}");
}

/// Changes a row until a change arrives faster than by polling.
async fn notified(site: &Site, events: &mut Events) {
    for port in 21000..21050 {
        let began = Instant::now();
        site.sql
            .run(&format!("UPDATE clusters SET http_port = {port}"))
            .await;
        while events.until("upsert").await.json()["http_port"] != port {}
        if port > 21005 && began.elapsed() < Duration::from_millis(100) {
            return;
        }
    }
    panic!("no change arrives by notification");
}

#[tokio::test]
async fn changes_without_notifications_arrive() {
    let site = quiet_site().await;
    let mut events = site.http.events("/api/stream", None).await;
    opened(&mut events).await;
    let host = Host::new();
    let other = Daemon::start(&site.database, &host).await;
    Client::to(other.port())
        .post(
            "/api/clusters",
            serde_json::json!({ "name": "theirs", "provider": "k3d" }),
        )
        .await
        .is(202);
    until_upsert(&mut events, "theirs", "actual_state", "running").await;
    // No notification and no transaction id: the row count or a full read finds it.
    site.sql.run("ALTER TABLE clusters DISABLE TRIGGER USER; INSERT INTO clusters (name, provider, pf_port, http_port, https_port) VALUES ('silent', 'k3d', 19009, 18099, 18499)").await;
    until_upsert(&mut events, "silent", "provider", "k3d").await;
}

#[tokio::test]
async fn a_late_commit_is_not_missed() {
    let site = quiet_site().await;
    let mut events = site.http.events("/api/stream", None).await;
    opened(&mut events).await;
    let early = site.database.connect().await;
    early
        // With ports: the choice of free ones would make the others wait for its commit.
        .run(
            "BEGIN; INSERT INTO clusters (name, provider, pf_port, http_port, https_port)
              VALUES ('early', 'k3d', 19500, 18500, 18501)",
        )
        .await;
    for n in 0..3 {
        site.sql
            .run(&format!(
                "INSERT INTO clusters (name, provider) VALUES ('late-{n}', 'k3d')"
            ))
            .await;
        until_upsert(&mut events, &format!("late-{n}"), "provider", "k3d").await;
    }
    early.run("COMMIT").await;
    until_upsert(&mut events, "early", "provider", "k3d").await;
}

#[tokio::test]
async fn a_stream_resumes_from_its_last_event() {
    let site = quiet_site().await;
    let mut events = site.http.events("/api/stream", None).await;
    let (_, id) = opened(&mut events).await;
    site.sql.declare("a").await;
    let seen = events.until("upsert").await;
    drop(events);
    site.sql.run("INSERT INTO clusters (name, provider) VALUES ('b', 'k3d'); DELETE FROM clusters WHERE name = 'a'").await;
    for (last, expected) in [(seen.id.unwrap(), 1), (id, 2)] {
        let mut again = site.http.events("/api/stream", Some(&last)).await;
        let mut upserts = 0;
        loop {
            let event = again.next().await.unwrap();
            match event.kind.as_str() {
                "upsert" | "remove" => upserts += 1,
                "synced" => break,
                other => panic!("{other} although {last} is known"),
            }
            if upserts > 20 {
                panic!("too many");
            }
        }
        // A missed change may come after `synced`, if it was not read yet.
        if upserts < expected {
            again.until("upsert").await;
        }
    }
    for unknown in ["nonsense", "0000000000000000-1", "-", ""] {
        let mut again = site.http.events("/api/stream", Some(unknown)).await;
        let (names, _) = opened(&mut again).await;
        assert!(names.contains(&"b".to_owned()), "{unknown}: {names:?}");
    }
}

#[tokio::test]
async fn a_stalled_reader_is_dropped() {
    let site = quiet_site().await;
    site.sql.declare_many("c-", 500).await;
    // Sends a request and never reads.
    let mut slow = tokio::net::TcpStream::connect(("127.0.0.1", site.daemon.port()))
        .await
        .unwrap();
    slow.write_all(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut watching = site.http.events("/api/stream", None).await;
    opened(&mut watching).await;
    let streams = async || site.http.get("/api/status").await.json()["streams"].as_u64();
    eventually(SOON, "both streams to be open", || async {
        streams().await == Some(2)
    })
    .await;
    // The other reader reports each port once all clusters have it; quick changes
    // may be merged.
    let (reached, mut known) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        let mut seen = HashMap::<u64, HashSet<String>>::new();
        while let Some(event) = watching.next().await {
            let row = event.json();
            let port = row["http_port"].as_u64().expect("a cluster");
            let names = seen.entry(port).or_default();
            names.insert(row["name"].to_string());
            if names.len() == 500 {
                reached.send_replace(port);
            }
        }
    });
    let before = rss(&site);
    // The writes wait for that reader, so it never lags. The kernel buffers some
    // megabytes for the stalled one; the test writes up to a hundred.
    let mut port = 20_000;
    while streams().await != Some(1) {
        port += 1;
        assert!(port < 20_300, "the stalled reader is not dropped");
        site.sql
            .run(&format!("UPDATE clusters SET http_port = {port}"))
            .await;
        let seen = tokio::time::timeout(SOON, known.wait_for(|known| *known == port)).await;
        seen.expect("every change arrives")
            .expect("the reader that reads is not dropped");
    }
    let grown = rss(&site).saturating_sub(before);
    assert!(
        grown < 60_000,
        "{grown} kB more for one reader that does not read"
    );
}

fn rss(site: &Site) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.daemon.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_snapshot_of_ten_thousand_clusters_has_parts() {
    let site = quiet_site().await;
    site.sql.declare_many("c-", 10000).await;
    let began = Instant::now();
    let mut events = site.http.events("/api/stream", None).await;
    let first = events.next().await.unwrap();
    assert_eq!(first.kind, "snapshot");
    let part = first.json();
    assert_eq!((&part["part"], &part["parts"]), (&0.into(), &20.into()));
    assert_eq!(part["clusters"].as_array().unwrap().len(), 500);
    let mut known = 500;
    loop {
        let event = events.next().await.unwrap();
        if event.kind == "synced" {
            assert_eq!(event.json()["total"], 10_000);
            break;
        }
        known += event.json()["clusters"].as_array().unwrap().len();
    }
    assert_eq!(known, 10_000);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_stream_survives_a_restart_of_postgres() {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    let host = Host::new();
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_API_ONLY", "true")
        .spawn();
    daemon.ready().await;
    let http = Client::to(daemon.port());
    let mut events = http.events("/api/stream", None).await;
    opened(&mut events).await;
    server.kill().await;
    let lost = loop {
        // The first status says that no daemon runs.
        let status = events.until("status").await.json();
        if status["current"] == false {
            break status;
        }
    };
    assert!(lost["why"].is_string(), "{lost}");
    // A new stream gets the status, too, with its time.
    let mut late = http.events("/api/stream", None).await;
    opened(&mut late).await;
    let warned = late.next().await.expect("an open stream");
    assert_eq!((warned.kind.as_str(), &warned.id), ("status", &None));
    assert_eq!(warned.json()["current"], false);
    assert!(warned.json()["as_of"].is_string(), "{warned:?}");
    http.get("/api/clusters").await.is(503);
    let body = serde_json::json!({ "name": "dev", "provider": "k3d" });
    let answer = http.post("/api/clusters", body).await;
    assert!(
        [500, 503].contains(&answer.status),
        "{} {}",
        answer.status,
        answer.text
    );
    server.start().await;
    // During the start the reason may change.
    let current = async { while events.until("status").await.json()["current"] != true {} };
    let current = tokio::time::timeout(SOON, current).await;
    current.expect("the stream to be current again");
    database.declare("after").await;
    until_upsert(&mut events, "after", "provider", "k3d").await;
}

#[tokio::test]
async fn the_watcher_is_registered_only_while_a_stream_is_open() {
    let site = quiet_site().await;
    let watchers = "SELECT count(*)::text FROM kindler_watchers WHERE until > now()";
    assert_eq!(site.sql.text(watchers).await, "0");
    let events = site.http.events("/api/stream", None).await;
    site.sql.wait_text(watchers, "1").await;
    drop(events);
    eventually(
        Duration::from_secs(60),
        "the server to watch no more",
        || async { site.sql.text(watchers).await == "0" },
    )
    .await;
}
