//! Accepts connections, with limits on their number, on the time to send a
//! request and on the time to read the response.
//!
//! At the limit, further connections wait in the kernel, where they cost no file
//! descriptor: the database and running commands need descriptors, too.

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

use crate::cause::chain;

/// Pause after a failed accept, as when no file descriptor is left.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// Time between two warnings that the limit is reached.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Limits on connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    /// Open connections, streams included.
    pub(super) open: usize,
    /// Time to send the head of the first request.
    pub(super) first_within: Duration,
    /// Time to send the head of the next request.
    pub(super) next_within: Duration,
    /// Time until the client acknowledges sent data.
    pub(super) read_within: Duration,
    /// Time for open requests after a shutdown began.
    pub(super) close_within: Duration,
}

/// Serves until `shutdown`; open requests then have `close_within` to end.
pub(super) async fn serve(
    listener: TcpListener,
    app: Router,
    limits: ConnectionLimits,
    shutdown: CancellationToken,
) {
    let mut app = app.into_make_service_with_connect_info::<SocketAddr>();
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.next_within);
    let open = TaskTracker::new();
    let mut slots = ConnectionSlots::new(limits.open);
    loop {
        let slot = tokio::select! {
            slot = slots.next() => slot,
            () = shutdown.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                warn!(error = chain(&error), "cannot accept a connection");
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        set_nodelay(&stream);
        set_tcp_user_timeout(&stream, limits.read_within);
        // Handlers read the peer address.
        let Ok(service) = app.call(peer).await;
        let service = TowerToHyperService::new(service);
        let begun = CancellationToken::new();
        let begins = begun.clone();
        let service = hyper::service::service_fn(move |request| {
            begins.cancel();
            hyper::service::Service::call(&service, request)
        });
        let stream = SlottedStream {
            stream,
            _slot: slot,
        };
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let (connection, closing) = (connection.with_upgrades(), shutdown.clone());
        open.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = first_request_timeout(&begun, limits.first_within) => {
                    debug!(%peer, "a connection sent no request in time");
                    return;
                }
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                let error = &error as &dyn std::error::Error;
                debug!(error, %peer, "a connection ended early");
            }
        });
    }
    drop(listener);
    open.close();
    if timeout(limits.close_within, open.wait()).await.is_err() {
        debug!("connections are cut off");
    }
}

/// Ends only if no request begins in time.
async fn first_request_timeout(begun: &CancellationToken, within: Duration) {
    if timeout(within, begun.cancelled()).await.is_ok() {
        pending().await
    }
}

/// Counts and limits open connections.
struct ConnectionSlots {
    free: Arc<Semaphore>,
    all: usize,
    warned: Option<Instant>,
}

impl ConnectionSlots {
    fn new(all: usize) -> Self {
        let free = Arc::new(Semaphore::new(all));
        Self {
            free,
            all,
            warned: None,
        }
    }

    /// Waits for a free slot.
    async fn next(&mut self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = self.free.clone().try_acquire_owned() {
            return Some(slot);
        }
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            warn!(
                open = self.all,
                "the connection limit is reached; new connections wait"
            );
            self.warned = Some(Instant::now());
        }
        // Fails only for a closed semaphore, and this one is never closed.
        self.free.clone().acquire_owned().await.ok()
    }
}

/// A connection that occupies a slot until it is dropped: a WebSocket outlives
/// the request that opened it.
struct SlottedStream {
    stream: TcpStream,
    _slot: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for SlottedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SlottedStream {
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

/// Whether an accept error concerns that one connection only.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Without TCP_NODELAY an event waits until the client acknowledges the one
/// before, which clients delay by 40 ms.
fn set_nodelay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        let error = &error as &dyn std::error::Error;
        debug!(error, "cannot set TCP_NODELAY");
    }
}

/// Closes a stream whose client stopped reading.
fn set_tcp_user_timeout(stream: &TcpStream, within: Duration) {
    let within = within.as_millis().try_into().unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, within) {
        let error = &error as &dyn std::error::Error;
        debug!(error, "cannot set TCP_USER_TIMEOUT");
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::ConnectInfo;
    use axum::extract::ws::WebSocketUpgrade;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
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

    async fn served_within(limits: ConnectionLimits) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = async || {
            sleep(Duration::from_millis(500)).await;
            "slow"
        };
        let peer = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
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

    /// Sends a request and reads the response to the end of the connection.
    async fn exchange(address: SocketAddr, request: &str) -> (String, SocketAddr) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        timeout(Duration::from_secs(10), read)
            .await
            .expect("an end")
            .unwrap();
        (answer, stream.local_addr().unwrap())
    }

    #[tokio::test]
    async fn an_incomplete_request_times_out_and_a_slow_response_does_not() {
        let (address, ..) = served().await;
        for beginning in ["", "GET /slow HTTP/1.1\r\nHost: x\r\n"] {
            let (answer, _) = exchange(address, beginning).await;
            assert!(!answer.contains("200 OK"), "{answer}");
        }
        let request = "GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert!(exchange(address, request).await.0.ends_with("slow"));
        let request = "GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let (answer, from) = exchange(address, request).await;
        assert!(answer.ends_with(&from.to_string()), "{answer}");
    }

    const PEER: &str = "GET /peer HTTP/1.1\r\nHost: x\r\n\r\n";

    /// Sends a request and keeps the connection open.
    async fn send(address: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Reads what arrives first.
    async fn read_some(stream: &mut TcpStream) -> String {
        let mut some = [0; 512];
        let read = timeout(Duration::from_secs(10), stream.read(&mut some));
        let n = read.await.expect("an answer").unwrap();
        String::from_utf8_lossy(&some[..n]).into_owned()
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_the_next_request() {
        let next_within = Duration::from_secs(60);
        let limits = ConnectionLimits {
            next_within,
            ..LIMITS
        };
        let (address, ..) = served_within(limits).await;
        let mut stream = send(address, PEER).await;
        assert!(read_some(&mut stream).await.contains("200 OK"));
        // The limit for the first request is over, the one for the next is not.
        sleep(LIMITS.first_within * 2).await;
        stream.write_all(PEER.as_bytes()).await.unwrap();
        assert!(read_some(&mut stream).await.contains("200 OK"));
    }

    #[tokio::test]
    async fn the_connection_limit_holds_and_idle_clients_lose_their_slots() {
        let limits = ConnectionLimits {
            open: 2,
            next_within: Duration::from_secs(60),
            ..LIMITS
        };
        let (address, ..) = served_within(limits).await;
        let upgrade = "GET /socket HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        let mut socket = send(address, upgrade).await;
        assert!(read_some(&mut socket).await.contains(" 101 "));
        let mut kept = send(address, PEER).await;
        assert!(read_some(&mut kept).await.contains("200 OK"));
        let mut third = send(address, PEER).await;
        let mut some = [0; 64];
        let early = timeout(LIMITS.first_within * 2, third.read(&mut some)).await;
        assert!(early.is_err(), "answered above the limit");
        drop(socket);
        assert!(read_some(&mut third).await.contains("200 OK"));
        drop((kept, third));
        // Clients that send nothing, or half a head, do not block the others.
        let mut silent = Vec::new();
        for n in 0..8 {
            silent.push(send(address, ["", "GET /peer HTTP/1.1\r\n"][n % 2]).await);
        }
        let request = "GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert!(exchange(address, request).await.0.contains("200 OK"));
    }

    #[tokio::test]
    async fn shutdown_is_prompt_with_every_slot_taken() {
        let (address, shutdown, serving) =
            served_within(ConnectionLimits { open: 1, ..LIMITS }).await;
        let _silent = TcpStream::connect(address).await.unwrap();
        shutdown.cancel();
        let ended = timeout(Duration::from_secs(5), serving).await;
        ended.expect("an end").unwrap();
    }

    #[tokio::test]
    async fn shutdown_is_prompt_with_an_open_connection() {
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
