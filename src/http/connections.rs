//! Accepting connections, with bounds on how many are open, how long one may take
//! to say what it wants, and how long it may leave unread what it was told.
//!
//! A connection that finds no place waits in the kernel, where it costs no
//! descriptor: those are for the database and for the guards of commands, too.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use tracing::{debug, warn};

/// Between two attempts to accept, when the system has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Between two warnings that there is no place left.
const WARN_AGAIN: Duration = Duration::from_secs(60);

/// How many connections there may be, and how long each may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Open at once, streams among them.
    pub(super) open: usize,
    /// Until the head of the first request is there.
    pub(super) first_within: Duration,
    /// Until the head of the next request is there.
    pub(super) next_within: Duration,
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
        .header_read_timeout(limits.next_within);
    let open = TaskTracker::new();
    let mut places = Places::new(limits.open);
    loop {
        let place = tokio::select! {
            place = places.next() => place,
            () = shutdown.cancelled() => break,
        };
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
        let begun = CancellationToken::new();
        let begins = begun.clone();
        let service = hyper::service::service_fn(move |request| {
            begins.cancel();
            hyper::service::Service::call(&service, request)
        });
        let stream = Placed {
            stream,
            _place: place,
        };
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let (connection, closing) = (connection.with_upgrades(), shutdown.clone());
        open.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = no_beginning(&begun, limits.first_within) => {
                    debug!(%peer, "a connection did not say what it wants");
                    return;
                }
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

/// Ends when no request has begun by then.
async fn no_beginning(begun: &CancellationToken, within: Duration) {
    if timeout(within, begun.cancelled()).await.is_ok() {
        pending().await
    }
}

/// How many connections may be open.
struct Places {
    free: Arc<Semaphore>,
    all: usize,
    warned: Option<Instant>,
}

impl Places {
    fn new(all: usize) -> Self {
        let free = Arc::new(Semaphore::new(all));
        Self {
            free,
            all,
            warned: None,
        }
    }

    /// A place, once there is one.
    async fn next(&mut self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Some(place);
        }
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_AGAIN) {
            warn!(
                open = self.all,
                "no more connections are taken until one ends"
            );
            self.warned = Some(Instant::now());
        }
        // It is never closed, so there is always one in the end.
        self.free.clone().acquire_owned().await.ok()
    }
}

/// A connection and its place, which is given back with the connection, whoever
/// holds that last: a WebSocket outlives the request that it began with.
struct Placed {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
    use axum::extract::ws::WebSocketUpgrade;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMITS: Limits = Limits {
        open: 64,
        first_within: Duration::from_millis(200),
        next_within: Duration::from_millis(400),
        read_within: Duration::from_secs(15),
        close_within: Duration::from_millis(200),
    };

    type Served = (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>);

    async fn served() -> Served {
        served_within(LIMITS).await
    }

    async fn served_within(limits: Limits) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = async || {
            sleep(Duration::from_millis(500)).await;
            "slow"
        };
        let peer = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
        // Until the other side goes.
        let socket = async |upgrade: WebSocketUpgrade| {
            upgrade.on_upgrade(async |mut socket| while socket.recv().await.is_some() {})
        };
        let app = Router::new()
            .route("/slow", get(slow))
            .route("/peer", get(peer))
            .route("/socket", get(socket));
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, app, limits, shutdown.clone()));
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

    const PEER: &str = "GET /peer HTTP/1.1\r\nHost: x\r\n\r\n";

    /// Asks and leaves the connection open.
    async fn asked(address: SocketAddr, words: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        stream
    }

    /// What is there when something is.
    async fn heard(stream: &mut TcpStream) -> String {
        let mut some = [0; 512];
        let read = timeout(Duration::from_secs(10), stream.read(&mut some));
        let n = read.await.expect("an answer").unwrap();
        String::from_utf8_lossy(&some[..n]).into_owned()
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_the_next_request() {
        let next_within = Duration::from_secs(60);
        let limits = Limits {
            next_within,
            ..LIMITS
        };
        let (address, ..) = served_within(limits).await;
        let mut stream = asked(address, PEER).await;
        assert!(heard(&mut stream).await.contains("200 OK"));
        // The first head's time is over, the second's is not.
        sleep(LIMITS.first_within * 2).await;
        stream.write_all(PEER.as_bytes()).await.unwrap();
        assert!(heard(&mut stream).await.contains("200 OK"));
    }

    #[tokio::test]
    async fn no_more_are_open_than_there_are_places_and_silence_holds_none() {
        let limits = Limits {
            open: 2,
            next_within: Duration::from_secs(60),
            ..LIMITS
        };
        let (address, ..) = served_within(limits).await;
        let upgrade = "GET /socket HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        let mut socket = asked(address, upgrade).await;
        assert!(heard(&mut socket).await.contains(" 101 "));
        let mut kept = asked(address, PEER).await;
        assert!(heard(&mut kept).await.contains("200 OK"));
        let mut third = asked(address, PEER).await;
        let mut some = [0; 64];
        let early = timeout(LIMITS.first_within * 2, third.read(&mut some)).await;
        assert!(early.is_err(), "answered although no place was free");
        drop(socket);
        assert!(heard(&mut third).await.contains("200 OK"));
        drop((kept, third));
        // Those who say nothing, or only half a head, do not keep the others out.
        let mut silent = Vec::new();
        for n in 0..8 {
            silent.push(asked(address, ["", "GET /peer HTTP/1.1\r\n"][n % 2]).await);
        }
        let request = "GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert!(said(address, request).await.0.contains("200 OK"));
    }

    #[tokio::test]
    async fn it_ends_soon_although_every_place_is_taken() {
        let (address, shutdown, serving) = served_within(Limits { open: 1, ..LIMITS }).await;
        let _silent = TcpStream::connect(address).await.unwrap();
        shutdown.cancel();
        let ended = timeout(Duration::from_secs(5), serving).await;
        ended.expect("an end").unwrap();
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
