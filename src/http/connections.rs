//! Accepting connections, with a bound on how long one may take to say what it
//! wants, and how long it may leave unread what it was told.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use tracing::{debug, warn};

/// Between two attempts to accept, when the system has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// How long connections may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Until the head of a request is there, or the next request comes.
    pub(super) head_within: Duration,
    /// While nothing of what was sent is taken.
    pub(super) read_within: Duration,
    /// After a shutdown began.
    pub(super) close_within: Duration,
}

/// Serves until `shutdown`; open requests then get a moment to end.
pub(super) async fn serve(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let mut app = app.into_make_service_with_connect_info::<SocketAddr>();
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_within);
    let open = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_the_connections(&error) => continue,
            Err(error) => {
                warn!(%error, "no connection can be accepted");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        send_at_once(&stream);
        let_go_of_silent_readers(&stream, limits.read_within);
        // So that handlers can tell who asks.
        let Ok(service) = app.call(peer).await;
        let service = TowerToHyperService::new(service);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let (connection, closing) = (connection.with_upgrades(), shutdown.clone());
        open.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                debug!(%error, %peer, "a connection ended early");
            }
        });
    }
    drop(listener);
    open.close();
    if timeout(limits.close_within, open.wait()).await.is_err() {
        debug!("connections are cut off");
    }
}

/// What went wrong with one connection says nothing of the next.
fn is_the_connections(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Without it a second event waits until the first was confirmed, which readers
/// put off by 40 ms.
fn send_at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection sends late");
    }
}

/// Without it a reader that stopped reading would keep its stream for ever.
fn let_go_of_silent_readers(stream: &TcpStream, within: Duration) {
    let within = within.as_millis().try_into().unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, within) {
        debug!(%error, "a connection has no limit on silence");
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::ConnectInfo;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMITS: Limits = Limits {
        head_within: Duration::from_millis(200),
        read_within: Duration::from_secs(15),
        close_within: Duration::from_millis(200),
    };

    async fn served() -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = async || {
            sleep(Duration::from_millis(500)).await;
            "slow"
        };
        let peer = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
        let app = Router::new()
            .route("/slow", get(slow))
            .route("/peer", get(peer));
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, app, LIMITS, shutdown.clone()));
        (address, shutdown, serving)
    }

    async fn said(address: SocketAddr, words: &str) -> (String, SocketAddr) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        timeout(Duration::from_secs(10), read)
            .await
            .expect("an end")
            .unwrap();
        (answer, stream.local_addr().unwrap())
    }

    #[tokio::test]
    async fn who_does_not_say_what_it_wants_is_let_go_and_a_slow_answer_is_not() {
        let (address, ..) = served().await;
        for beginning in ["", "GET /slow HTTP/1.1\r\nHost: x\r\n"] {
            let (answer, _) = said(address, beginning).await;
            assert!(!answer.contains("200 OK"), "{answer}");
        }
        let request = "GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert!(said(address, request).await.0.ends_with("slow"));
        let request = "GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let (answer, from) = said(address, request).await;
        assert!(answer.ends_with(&from.to_string()), "{answer}");
    }

    #[tokio::test]
    async fn it_ends_soon_although_a_connection_stays_open() {
        let (address, shutdown, serving) = served().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        sleep(Duration::from_millis(50)).await;
        shutdown.cancel();
        timeout(Duration::from_secs(5), serving)
            .await
            .expect("an end")
            .unwrap();
    }
}
