//! A proxy in front of Postgres that injects faults: it stalls, disconnects, refuses
//! statements, and kills a process at a statement. It parses only as much of the
//! protocol as it needs to tell statements apart.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Database;

/// How the proxy treats messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Forwards everything.
    Flows,
    /// Forwards nothing in either direction, without an error, like a half-open
    /// connection. Accepts new connections and stalls them too.
    Stalls,
    /// Stalls only connections that have sent LISTEN.
    ListenerStalls,
    /// Answers every statement like a server whose disk is full, and does not
    /// forward it.
    DiskFull,
}

/// `53100 disk_full`, and ReadyForQuery.
const DISK_FULL: &[u8] =
    b"E\0\0\0\x33SERROR\0VERROR\0C53100\0MNo space left on device\0\0Z\0\0\0\x05I";

/// `XX000 internal_error` instead of the answer to an execution; the server itself
/// answers the `Sync` with ReadyForQuery.
const REFUSED: &[u8] = b"E\0\0\0\x2fSERROR\0VERROR\0CXX000\0Mrefused by the test\0\0";

/// A simple query that ends an open transaction, and fails.
const FAILING: &[u8] = b"Q\0\0\0\x1bROLLBACK; SELECT 1 / 0\0";

/// A fault at one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectedFault {
    /// The number of the statement, counted from 1 over all connections.
    pub at: usize,
    /// After the server has executed the statement and before its answer is
    /// forwarded; otherwise before the statement reaches the server.
    pub after: bool,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Closes the connection.
    Disconnect,
    /// Kills this process, and closes the connection.
    Kill(i32),
    /// Answers the statement with an error, does not execute it, and keeps the
    /// connection. Only before a statement.
    Refuse,
}

/// The code of the message that asks for TLS.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

struct Shared {
    socket: PathBuf,
    traffic: watch::Sender<Traffic>,
    statements: AtomicUsize,
    connections: AtomicUsize,
    fault: Mutex<Option<InjectedFault>>,
}

/// A proxy to one database; it ends when dropped.
pub struct Proxy {
    port: u16,
    name: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy that forwards everything.
    pub async fn to(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            socket: database.socket_dir().join(".s.PGSQL.5432"),
            traffic: watch::Sender::new(Traffic::Flows),
            statements: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            fault: Mutex::new(None),
        });
        let serving = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(ProxyConnection::run(client, serving.clone()));
            }
        });
        Self {
            port,
            name: database.name().to_owned(),
            shared,
            accepting,
        }
    }

    /// The URL of the database through the proxy.
    pub fn url(&self) -> String {
        format!(
            "postgresql://postgres@127.0.0.1:{}/{}",
            self.port, self.name
        )
    }

    /// Changes how messages are treated, also on open connections.
    pub fn set(&self, traffic: Traffic) {
        self.shared.traffic.send_replace(traffic);
    }

    /// The number of statements so far.
    pub fn statements(&self) -> usize {
        self.shared.statements.load(Ordering::SeqCst)
    }

    /// The number of connection attempts, also while the server was down.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Injects a fault once.
    pub fn inject(&self, fault: InjectedFault) {
        *self.shared.fault.lock().unwrap() = Some(fault);
    }

    /// Whether the injected fault has occurred.
    pub fn fault_occurred(&self) -> bool {
        self.shared.fault.lock().unwrap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// Counts a statement; returns the fault that is due at it, if any.
    fn count(&self) -> Option<InjectedFault> {
        let number = self.statements.fetch_add(1, Ordering::SeqCst) + 1;
        let mut fault = self.fault.lock().unwrap();
        fault.take_if(|fault| fault.at <= number)
    }
}

fn kill(fault: InjectedFault) {
    if let FaultKind::Kill(pid) = fault.kind {
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
}

/// One direction was closed on purpose; the other is dropped with it.
struct Disconnected;

struct ProxyConnection {
    shared: Arc<Shared>,
    /// The fault that occurs at the next answer, which is not forwarded.
    armed: Mutex<Option<InjectedFault>>,
    is_armed: AtomicBool,
    /// It has sent LISTEN.
    listens: AtomicBool,
}

impl ProxyConnection {
    async fn flowing(&self) {
        let mut traffic = self.shared.traffic.subscribe();
        let flows = |traffic: &Traffic| match traffic {
            Traffic::Stalls => false,
            Traffic::ListenerStalls => !self.listens.load(Ordering::SeqCst),
            Traffic::Flows | Traffic::DiskFull => true,
        };
        let _ = traffic.wait_for(flows).await;
    }

    async fn run(client: TcpStream, shared: Arc<Shared>) {
        let Ok(server) = UnixStream::connect(&shared.socket).await else {
            return;
        };
        let connection = Self {
            shared,
            armed: Mutex::new(None),
            is_armed: AtomicBool::new(false),
            listens: AtomicBool::new(false),
        };
        let (from_client, to_client) = tokio::io::split(client);
        let (from_server, to_server) = tokio::io::split(server);
        let to_client = tokio::sync::Mutex::new(to_client);
        tokio::select! {
            _ = connection.requests(from_client, to_server, &to_client) => {}
            _ = connection.answers(from_server, &to_client) => {}
        }
    }

    async fn requests(
        &self,
        mut client: ReadHalf<TcpStream>,
        mut server: WriteHalf<UnixStream>,
        answers: &tokio::sync::Mutex<WriteHalf<TcpStream>>,
    ) -> Option<Disconnected> {
        // The startup message has no type byte. The server behind a socket has no TLS, and
        // says so when it is asked.
        loop {
            let startup = read_body(&mut client, Vec::new()).await?;
            server.write_all(&startup).await.ok()?;
            if startup[4..8] != SSL_REQUEST {
                break;
            }
        }
        loop {
            let kind = client.read_u8().await.ok()?;
            let frame = read_body(&mut client, vec![kind]).await?;
            if frame.windows(6).any(|word| word == b"LISTEN") {
                self.listens.store(true, Ordering::SeqCst);
            }
            self.flowing().await;
            if *self.shared.traffic.borrow() == Traffic::DiskFull {
                // One answer for all messages of a statement.
                if matches!(kind, b'Q' | b'S') {
                    answers.lock().await.write_all(DISK_FULL).await.ok()?;
                }
                continue;
            }
            // A simple query, or the execution of a prepared statement.
            if matches!(kind, b'Q' | b'E')
                && let Some(fault) = self.shared.count()
            {
                if fault.kind == FaultKind::Refuse {
                    if kind == b'Q' {
                        server.write_all(FAILING).await.ok()?;
                    } else {
                        answers.lock().await.write_all(REFUSED).await.ok()?;
                    }
                    continue;
                }
                if !fault.after {
                    kill(fault);
                    return Some(Disconnected);
                }
                *self.armed.lock().unwrap() = Some(fault);
            }
            server.write_all(&frame).await.ok()?;
            if matches!(kind, b'Q' | b'S') && self.armed.lock().unwrap().is_some() {
                self.is_armed.store(true, Ordering::SeqCst);
            }
        }
    }

    async fn answers(
        &self,
        mut server: ReadHalf<UnixStream>,
        client: &tokio::sync::Mutex<WriteHalf<TcpStream>>,
    ) -> Option<Disconnected> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = server
                .read(&mut buffer)
                .await
                .ok()
                .filter(|length| *length > 0)?;
            self.flowing().await;
            if self.is_armed.load(Ordering::SeqCst) {
                // The server has answered: the statement is committed.
                if let Some(fault) = self.armed.lock().unwrap().take() {
                    kill(fault);
                }
                return Some(Disconnected);
            }
            client
                .lock()
                .await
                .write_all(&buffer[..length])
                .await
                .ok()?;
        }
    }
}

/// Reads the length and the body of a message, and appends them to what was read.
async fn read_body(client: &mut ReadHalf<TcpStream>, mut frame: Vec<u8>) -> Option<Vec<u8>> {
    let length = client.read_u32().await.ok()?;
    frame.extend(length.to_be_bytes());
    let body = usize::try_from(length).ok()?.checked_sub(4)?;
    let start = frame.len();
    frame.resize(start + body, 0);
    client.read_exact(&mut frame[start..]).await.ok()?;
    Some(frame)
}
