//! Requests are counted by route template, whatever their path; streams while they are
//! open.

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;

use super::{Scrape, scene_with};
use crate::kit::{Daemon, Sql};

/// Sends a request without a body; returns status and text of the response.
pub(super) async fn send(daemon: &Daemon, method: &str, path: &str) -> (u16, String) {
    ask(daemon, method, path, "Accept: */*").await
}

/// The same with a header.
pub(super) async fn ask(daemon: &Daemon, method: &str, path: &str, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[tokio::test]
async fn requests_are_counted_by_template_and_never_by_path() {
    let scene = scene_with(|daemon| daemon.set("KINDLER_API_ONLY", "true")).await;
    scene.sql.declare("dev").await;
    for (method, path) in [
        ("GET", "/api/clusters/dev"),
        ("GET", "/api/clusters/no-such-cluster"),
        ("GET", "/api/clusters?q=canary-in-a-query"),
        ("GET", "/clusters/canary-in-a-view"),
        ("GET", "/api/canary-in-nothing"),
        ("CANARY", "/api/clusters"),
        ("DELETE", "/healthz"),
    ] {
        send(&scene.daemon, method, path).await;
    }
    let scrape = scene.scrape().await;
    for (sample, value) in [
        (
            r#"http_requests_total{method="GET",route="/api/clusters/{name}",code="200"}"#,
            1.0,
        ),
        (
            r#"http_requests_total{method="GET",route="/api/clusters/{name}",code="404"}"#,
            1.0,
        ),
        (
            r#"http_requests_total{method="GET",route="page",code="200"}"#,
            1.0,
        ),
        (
            r#"http_requests_total{method="GET",route="page",code="404"}"#,
            1.0,
        ),
        (
            r#"http_requests_total{method="other",route="/api/clusters",code="405"}"#,
            1.0,
        ),
        (
            r#"http_requests_total{method="DELETE",route="/healthz",code="405"}"#,
            1.0,
        ),
        (
            r#"http_request_duration_seconds_count{method="GET",route="/api/clusters/{name}"}"#,
            2.0,
        ),
    ] {
        assert_eq!(
            scrape.0.get(sample_of(sample).as_str()),
            Some(&value),
            "{sample}"
        );
    }
    assert_eq!(scrape.naming("canary"), Vec::<&String>::new());
    assert_eq!(scrape.naming("CANARY"), Vec::<&String>::new());
}

/// A sample with the label order of [`Scrape`]; route templates contain braces.
fn sample_of(sample: &str) -> String {
    Scrape::of(&format!("{sample} 0"))
        .0
        .into_keys()
        .next()
        .unwrap()
}

#[tokio::test]
async fn open_streams_are_counted_and_have_no_latency() {
    let scene = scene_with(|daemon| daemon.set("KINDLER_API_ONLY", "true")).await;
    scene.scrape().await.has("kindler_streams_open", 0.0);
    let mut events = TcpStream::connect(scene.daemon.address()).await.unwrap();
    events
        .write_all(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut some = [0; 64];
    events.read_exact(&mut some).await.unwrap();
    scene.until_sample("kindler_streams_open", 1.0).await;
    let url = format!("ws://{}/ws/tasks", scene.daemon.address());
    let tcp = TcpStream::connect(scene.daemon.address()).await.unwrap();
    let (mut socket, _) = client_async(url, tcp).await.unwrap();
    scene.until_sample("kindler_streams_open", 2.0).await;
    let scrape = scene.scrape().await;
    scrape.has(
        r#"http_requests_total{method="GET",route="/api/stream",code="200"}"#,
        1.0,
    );
    scrape.has(
        r#"http_requests_total{method="GET",route="/ws/tasks",code="101"}"#,
        1.0,
    );
    assert_eq!(
        scrape
            .naming("duration_seconds_count{method=\"GET\",route=\"/api/stream\"}")
            .len(),
        0
    );
    assert_eq!(
        scrape
            .naming("duration_seconds_count{method=\"GET\",route=\"/ws/tasks\"}")
            .len(),
        0
    );
    drop(events);
    scene.until_sample("kindler_streams_open", 1.0).await;
    socket.close(None).await.unwrap();
    while socket.next().await.is_some_and(|message| message.is_ok()) {}
    scene.until_sample("kindler_streams_open", 0.0).await;
}
