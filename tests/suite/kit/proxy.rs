//! A proxy in front of Postgres that loses, delays and cuts what passes: faults
//! from outside the daemon. It reads just enough of the protocol to know where
//! one statement ends and the next begins.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Database;

/// What the proxy does with what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Everything passes.
    Flows,
    /// Nothing passes, in neither direction, and nobody is told: a half-open
    /// connection. New ones are accepted and as silent.
    Stalls,
    /// The same, but only for connections that have said LISTEN; the others
    /// know nothing of it.
    ListenerStalls,
    /// Every statement is answered as by a server whose disk is full, and does
    /// not reach the server.
    DiskFull,
}

/// `53100 disk_full`, and that the session is ready for the next statement.
const DISK_FULL: &[u8] =
    b"E\0\0\0\x33SERROR\0VERROR\0C53100\0MNo space left on device\0\0Z\0\0\0\x05I";

/// `XX000 internal_error` in the place of an execution's answer; that the
/// session is ready again is the server's own word, at the `Sync`.
const REFUSED: &[u8] = b"E\0\0\0\x2fSERROR\0VERROR\0CXX000\0Mrefused by the test\0\0";

/// A simple query that ends whatever transaction is open, and fails.
const FAILING: &[u8] = b"Q\0\0\0\x1bROLLBACK; SELECT 1 / 0\0";

/// What happens at one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// At the statement of this number, counted from 1 over all connections.
    pub at: usize,
    /// Before it reaches the server, or after the server has carried it out and
    /// before its answer is passed on.
    pub after: bool,
    /// What happens to the daemon.
    pub blow: Blow,
}

/// What a trap does when it goes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// The connection is cut.
    Cut,
    /// This process is killed, and the connection with it.
    Kill(i32),
    /// The statement is answered with an error and not carried out; the
    /// connection stays. Only before a statement.
    Refuse,
}

struct Shared {
    socket: PathBuf,
    traffic: watch::Sender<Traffic>,
    statements: AtomicUsize,
    connections: AtomicUsize,
    trap: Mutex<Option<Trap>>,
}

/// A proxy to one database; ends when dropped.
pub struct Proxy {
    port: u16,
    name: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy through which everything passes.
    pub async fn before(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            socket: database.socket_dir().join(".s.PGSQL.5432"),
            traffic: watch::Sender::new(Traffic::Flows),
            statements: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            trap: Mutex::new(None),
        });
        let serving = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(Connection::run(client, serving.clone()));
            }
        });
        Self {
            port,
            name: database.name().to_owned(),
            shared,
            accepting,
        }
    }

    /// The database's URL by way of the proxy.
    pub fn url(&self) -> String {
        format!(
            "postgresql://postgres@127.0.0.1:{}/{}",
            self.port, self.name
        )
    }

    /// Lets traffic flow or stall, that of open connections too.
    pub fn set(&self, traffic: Traffic) {
        self.shared.traffic.send_replace(traffic);
    }

    /// How many statements have passed.
    pub fn statements(&self) -> usize {
        self.shared.statements.load(Ordering::SeqCst)
    }

    /// How many connections were asked for, whether or not the server was there.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Sets a trap, which goes off once.
    pub fn trap(&self, trap: Trap) {
        *self.shared.trap.lock().unwrap() = Some(trap);
    }

    /// Whether the trap has gone off.
    pub fn sprung(&self) -> bool {
        self.shared.trap.lock().unwrap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// Counts a statement; the trap that is set for it, if any.
    fn count(&self) -> Option<Trap> {
        let number = self.statements.fetch_add(1, Ordering::SeqCst) + 1;
        let mut trap = self.trap.lock().unwrap();
        trap.take_if(|trap| trap.at <= number)
    }
}

fn spring(trap: Trap) {
    if let Blow::Kill(pid) = trap.blow {
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
}

/// Why one direction ended; the other is dropped with it.
struct Cut;

struct Connection {
    shared: Arc<Shared>,
    /// The next answer is not passed on: it springs this trap.
    armed: Mutex<Option<Trap>>,
    is_armed: AtomicBool,
    /// It has said LISTEN.
    listens: AtomicBool,
}

impl Connection {
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
    ) -> Option<Cut> {
        // The startup message has no type.
        let startup = read_body(&mut client, Vec::new()).await?;
        server.write_all(&startup).await.ok()?;
        loop {
            let kind = client.read_u8().await.ok()?;
            let frame = read_body(&mut client, vec![kind]).await?;
            if frame.windows(6).any(|word| word == b"LISTEN") {
                self.listens.store(true, Ordering::SeqCst);
            }
            self.flowing().await;
            if *self.shared.traffic.borrow() == Traffic::DiskFull {
                // One answer for all parts of a statement.
                if matches!(kind, b'Q' | b'S') {
                    answers.lock().await.write_all(DISK_FULL).await.ok()?;
                }
                continue;
            }
            // A simple query, or the execution of a prepared one.
            if matches!(kind, b'Q' | b'E')
                && let Some(trap) = self.shared.count()
            {
                if trap.blow == Blow::Refuse {
                    if kind == b'Q' {
                        server.write_all(FAILING).await.ok()?;
                    } else {
                        answers.lock().await.write_all(REFUSED).await.ok()?;
                    }
                    continue;
                }
                if !trap.after {
                    spring(trap);
                    return Some(Cut);
                }
                *self.armed.lock().unwrap() = Some(trap);
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
    ) -> Option<Cut> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = server
                .read(&mut buffer)
                .await
                .ok()
                .filter(|length| *length > 0)?;
            self.flowing().await;
            if self.is_armed.load(Ordering::SeqCst) {
                // The server answers when it is done: committed, and not told.
                if let Some(trap) = self.armed.lock().unwrap().take() {
                    spring(trap);
                }
                return Some(Cut);
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

/// Reads the length and what it announces, behind what was read already.
async fn read_body(client: &mut ReadHalf<TcpStream>, mut frame: Vec<u8>) -> Option<Vec<u8>> {
    let length = client.read_u32().await.ok()?;
    frame.extend(length.to_be_bytes());
    let body = usize::try_from(length).ok()?.checked_sub(4)?;
    let start = frame.len();
    frame.resize(start + body, 0);
    client.read_exact(&mut frame[start..]).await.ok()?;
    Some(frame)
}
