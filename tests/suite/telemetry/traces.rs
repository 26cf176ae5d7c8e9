//! Traces arrive at a collector, and an unreachable collector delays no work.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{SOON, scene_with};
use crate::kit::{Sql, eventually};

/// A request that a collector received.
struct Sent {
    head: String,
    body: Vec<u8>,
}

/// A collector that accepts everything, with its address.
async fn collector() -> (String, mpsc::UnboundedReceiver<Sent>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take_all(stream, sender.clone()));
        }
    });
    (format!("http://{address}"), receiver)
}

async fn take_all(mut stream: TcpStream, sender: mpsc::UnboundedSender<Sent>) {
    let mut text = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let Some(end) = text.windows(4).position(|part| part == b"\r\n\r\n") else {
            match stream.read(&mut buffer).await {
                Ok(read) if read > 0 => text.extend_from_slice(&buffer[..read]),
                _ => return,
            }
            continue;
        };
        let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().trim().parse().unwrap();
        while text.len() < end + 4 + length {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "a whole body");
            text.extend_from_slice(&buffer[..read]);
        }
        let body = text[end + 4..end + 4 + length].to_vec();
        text.drain(..end + 4 + length);
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(answer).await.unwrap();
        let _ = sender.send(Sent { head, body });
    }
}

/// The spans of one export, with the name of their service.
fn spans(sent: &Sent) -> Vec<(String, Value)> {
    let export: Value = serde_json::from_slice(&sent.body).unwrap();
    let mut found = Vec::new();
    for of_resource in export["resourceSpans"].as_array().unwrap() {
        let service = attribute(&of_resource["resource"], "service.name");
        let service = service["stringValue"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        for of_scope in of_resource["scopeSpans"].as_array().unwrap() {
            let spans = of_scope["spans"].as_array().unwrap().iter();
            found.extend(spans.map(|span| (service.clone(), span.clone())));
        }
    }
    found
}

fn attribute<'a>(of: &'a Value, key: &str) -> &'a Value {
    let attributes = of["attributes"].as_array().unwrap();
    attributes
        .iter()
        .find(|attribute| attribute["key"] == key)
        .map_or(&Value::Null, |attribute| &attribute["value"])
}

#[tokio::test]
async fn each_reconcile_arrives_as_a_span() {
    let (url, mut sent) = collector().await;
    let scene = scene_with(|daemon| {
        daemon
            .set("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
            .set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
            .set("OTEL_BSP_SCHEDULE_DELAY", "100")
    })
    .await;
    scene.sql.declare("dev").await;
    scene.sql.wait_state("dev", "present running").await;
    let arrived = async {
        loop {
            let export = sent.recv().await.expect("a collector");
            assert!(
                export.head.starts_with("post /v1/traces "),
                "{}",
                export.head
            );
            let created = spans(&export)
                .into_iter()
                .find(|(_, span)| attribute(span, "step")["stringValue"] == "create");
            if let Some(found) = created {
                return found;
            }
        }
    };
    let (service, span) = tokio::time::timeout(SOON, arrived).await.expect("a span");
    assert_eq!(service, "kindler");
    assert_eq!(span["name"], "reconcile");
    assert_eq!(attribute(&span, "cluster")["stringValue"], "dev");
    assert_eq!(attribute(&span, "reason")["stringValue"], "Created");
    for key in ["term", "attempt", "seconds"] {
        assert!(!attribute(&span, key).is_null(), "{key}: {span}");
    }
    let nanos = |key: &str| -> u64 { span[key].as_str().unwrap().parse().unwrap() };
    assert!(nanos("endTimeUnixNano") > nanos("startTimeUnixNano"));
}

#[tokio::test]
async fn queued_spans_are_sent_at_shutdown() {
    let (url, mut sent) = collector().await;
    let scene = scene_with(|daemon| {
        daemon
            .set(
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                format!("{url}/own/path"),
            )
            .set("OTEL_SERVICE_NAME", "kindler-of-mine")
            .set("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    })
    .await;
    scene.sql.declare("dev").await;
    scene.sql.wait_state("dev", "present running").await;
    scene.until_sample("kindler_leases_held", 0.0).await;
    let ended = scene.daemon.stop().await;
    assert!(ended.success(), "{ended}");
    let export = tokio::time::timeout(SOON, sent.recv())
        .await
        .unwrap()
        .unwrap();
    assert!(
        export.head.starts_with("post /own/path "),
        "{}",
        export.head
    );
    assert!(
        export.head.contains("application/x-protobuf"),
        "{}",
        export.head
    );
    for word in ["reconcile", "kindler-of-mine", "Created"] {
        let there = export
            .body
            .windows(word.len())
            .any(|part| part == word.as_bytes());
        assert!(there, "{word}");
    }
}

#[tokio::test]
async fn an_unreachable_or_silent_collector_delays_no_work() {
    // The kernel accepts connections; no response follows.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for url in [
        "http://127.0.0.1:1".to_owned(),
        format!("http://{}", silent.local_addr().unwrap()),
        "not a url".to_owned(),
    ] {
        let scene = scene_with(|daemon| {
            daemon
                .set("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
                .set("OTEL_BSP_SCHEDULE_DELAY", "100")
        })
        .await;
        scene.sql.declare("dev").await;
        scene.sql.wait_state("dev", "present running").await;
        scene.sql.run("DELETE FROM clusters").await;
        scene.sql.wait_state("dev", "gone").await;
        if url.starts_with("not") {
            let warning = "traces are not exported";
            eventually(SOON, warning, || async {
                scene.daemon.log().contains(warning)
            })
            .await;
        }
        let began = Instant::now();
        assert!(scene.daemon.stop().await.success());
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{:?}",
            began.elapsed()
        );
    }
}

/// An endpoint may contain a password, and an invalid one is logged.
#[tokio::test]
async fn an_invalid_endpoint_is_logged_without_its_password() {
    let scene = scene_with(|daemon| {
        daemon.set(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://user:sekret-canary@collector one:4318",
        )
    })
    .await;
    let line = eventually(SOON, "the error to be logged", || async {
        let log = scene.daemon.log();
        let line = log.lines().find(|line| line.contains("not exported"));
        line.map(str::to_owned)
    })
    .await;
    assert!(line.contains("invalid uri character"), "{line}");
    assert!(!line.contains("sekret-canary"), "{line}");
}
