//! The real Postgres of the tests: one shared by the test process, and private ones for tests
//! that stop, kill or suspend theirs.
//!
//! Data folders are copied from one that `initdb` made once per process. Nothing is durable,
//! except on a server that is asked to be, because the time that takes is measured.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kindler::postgres::{
    Account, Binaries, SUPERUSER, initdb, server_arguments, serving, socket_url,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use super::database::Database;
use super::eventually::eventually;
use super::run_folder::run_folder;

/// How long a server may take to start or stop on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Settings of the tests: room for many connections, and nothing left behind in shared memory
/// by a killed server.
const SETTINGS: [&str; 4] = [
    "max_connections=300",
    "shared_buffers=32MB",
    "dynamic_shared_memory_type=mmap",
    "max_wal_size=128MB",
];

/// A server and its folder.
#[derive(Debug)]
pub(super) struct TestServer {
    installation: &'static Installation,
    folder: PathBuf,
    durable: bool,
    child: Mutex<Option<Child>>,
    databases_made: AtomicU32,
    unused_databases: Mutex<Vec<String>>,
}

/// The binaries, who runs them, and a fresh data folder to copy.
#[derive(Debug)]
struct Installation {
    binaries: Binaries,
    account: Account,
    pristine_data: PathBuf,
}

/// The server that all tests of this process share.
pub(super) async fn shared_server() -> Arc<TestServer> {
    static SHARED: OnceCell<Arc<TestServer>> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let server = TestServer::make("shared", false).await;
            server.start().await;
            Arc::new(server)
        })
        .await
        .clone()
}

async fn installation() -> &'static Installation {
    static INSTALLATION: OnceCell<Installation> = OnceCell::const_new();
    INSTALLATION
        .get_or_init(|| async {
            let binaries = Binaries::find(None, None).expect("find an installed Postgres");
            let account = Account::for_new_data().expect("choose who runs Postgres");
            let pristine_data = run_folder().join("pristine");
            let _ = fs::remove_dir_all(&pristine_data);
            initdb(&pristine_data, account, &binaries, false)
                .await
                .expect("make a data folder");
            Installation {
                binaries,
                account,
                pristine_data,
            }
        })
        .await
}

impl TestServer {
    async fn make(name: &str, durable: bool) -> Self {
        let server = Self::without_data(name, durable).await;
        let Self {
            installation,
            folder,
            ..
        } = &server;
        let copied = Command::new("cp")
            .arg("-a")
            .args([&installation.pristine_data, &folder.join("data")])
            .status();
        assert!(
            copied.is_ok_and(|status| status.success()),
            "could not copy the data folder"
        );
        server
    }

    /// A standby of another server, fed by it; its data folder is copied now.
    async fn make_standby(name: &str, primary: &Self) -> Self {
        let server = Self::without_data(name, false).await;
        let Installation {
            binaries, account, ..
        } = server.installation;
        make_folder(&server.data(), 0o700);
        account
            .own(&server.data())
            .expect("give away the data folder");
        let mut command = Command::new(binaries.program("pg_basebackup"));
        command
            .arg("-D")
            .arg(server.data())
            .arg("-h")
            .arg(primary.socket_dir())
            .args([
                "-U",
                SUPERUSER,
                "-X",
                "stream",
                "-c",
                "fast",
                "--no-sync",
                "-R",
            ])
            .current_dir("/");
        let copied = account
            .apply(&mut command)
            .output()
            .expect("run pg_basebackup");
        assert!(copied.status.success(), "{copied:?}");
        server
    }

    async fn without_data(name: &str, durable: bool) -> Self {
        let installation = installation().await;
        let folder = run_folder().join(name);
        make_folder(&folder, 0o711);
        make_folder(&folder.join("run"), 0o700);
        installation
            .account
            .own(&folder.join("run"))
            .expect("give away the socket folder");
        Self {
            installation,
            folder,
            durable,
            child: Mutex::default(),
            databases_made: AtomicU32::new(0),
            unused_databases: Mutex::default(),
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn socket_dir(&self) -> PathBuf {
        self.folder.join("run")
    }

    pub(super) fn url(&self, user: &str, database: &str) -> String {
        socket_url(&self.socket_dir(), user, database)
    }

    /// A connection of the superuser to the database that is always there.
    pub(super) async fn admin(&self) -> Client {
        connect(&self.url(SUPERUSER, "postgres")).await
    }

    /// Starts the server and returns when it accepts connections.
    async fn start(&self) {
        // After a kill its children need a moment to notice, and would be in the way.
        eventually(
            DEADLINE,
            "the end of the server's earlier processes",
            || async { serving(&self.data()).is_empty() },
        )
        .await;
        let log = self.folder.join("postgres.log");
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("open the log");
        let Installation {
            binaries, account, ..
        } = self.installation;
        let (data, socket) = (self.data(), self.socket_dir());
        let mut command = Command::new(binaries.program("postgres"));
        account
            .apply(&mut command)
            .args(server_arguments(&data, &socket, self.durable))
            .current_dir("/")
            .stdin(Stdio::null());
        SETTINGS.iter().for_each(|setting| {
            command.args(["-c", setting]);
        });
        command
            .stdout(output.try_clone().expect("share the log"))
            .stderr(output);
        let child = command.process_group(0).spawn().expect("start Postgres");
        *self.child() = Some(child);

        eventually(DEADLINE, "a Postgres that accepts connections", || async {
            if let Some(status) = self.exit_status() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                panic!("Postgres ended while starting ({status}); its log:\n{said}");
            }
            try_connect(&self.url(SUPERUSER, "postgres")).await.is_ok()
        })
        .await;
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exit_status(&self) -> Option<ExitStatus> {
        self.child()
            .as_mut()?
            .try_wait()
            .expect("look after Postgres")
    }

    /// Signals the main server process.
    fn signal(&self, signal: Signal) {
        if let Some(child) = self.child().as_mut()
            && let Ok(None) = child.try_wait()
        {
            kill_process(Pid::from_child(child), signal).expect("signal Postgres");
        }
    }

    /// Signals all its processes.
    fn signal_all(&self, signal: Signal) {
        for pid in serving(&self.data()) {
            // One that ended in the meantime needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    async fn stop(&self, signal: Signal) {
        self.signal(signal);
        eventually(DEADLINE, "the end of Postgres", || async {
            self.child().is_none() || self.exit_status().is_some()
        })
        .await;
        *self.child() = None;
    }

    /// Makes a database that did not exist before, and returns its name.
    pub(super) async fn make_database(&self) -> String {
        let admin = self.admin().await;
        let unused: Vec<String> = self
            .unused_databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
            .collect();
        for name in unused {
            let drop = format!("DROP DATABASE {name} WITH (FORCE)");
            admin
                .batch_execute(&drop)
                .await
                .expect("drop the database of a finished test");
        }
        let name = format!(
            "test_{}",
            self.databases_made.fetch_add(1, Ordering::Relaxed)
        );
        // Nobody can be connected to template0, so many tests can copy it at once.
        let create = format!("CREATE DATABASE {name} TEMPLATE template0");
        admin
            .batch_execute(&create)
            .await
            .expect("create a database for a test");
        name
    }

    /// Leaves a database to the next one who makes one, because a drop cannot wait.
    pub(super) fn abandon_database(&self, name: String) {
        self.unused_databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name);
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.signal(Signal::QUIT);
        // A suspended one must be woken to hear that.
        self.signal_all(Signal::CONT);
        if let Some(child) = self.child().as_mut() {
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A server of its own for a test that stops, kills or suspends it.
#[derive(Clone, Debug)]
pub struct PrivateServer(Arc<TestServer>);

impl PrivateServer {
    /// Makes a server and starts it.
    pub async fn create() -> Self {
        Self::make(false).await
    }

    /// The same, but a commit waits for the disk, as in earnest.
    pub async fn create_durable() -> Self {
        Self::make(true).await
    }

    async fn make(durable: bool) -> Self {
        let server = Self(Arc::new(TestServer::make(&private_name(), durable).await));
        server.start().await;
        server
    }

    /// Makes a streaming standby of this server and starts it.
    pub async fn standby(&self) -> Self {
        let standby = TestServer::make_standby(&private_name(), &self.0).await;
        let standby = Self(Arc::new(standby));
        standby.start().await;
        standby
    }

    /// Makes a standby the primary.
    pub async fn promote(&self) {
        let promoted = self
            .0
            .admin()
            .await
            .query_one("SELECT pg_promote()", &[])
            .await;
        assert!(
            promoted.expect("promote").get::<_, bool>(0),
            "not promoted in time"
        );
    }

    /// Makes a stopped server a standby of whoever it was set up to follow: it
    /// serves again, but only reads.
    pub fn demote(&self) {
        let signal = self.0.data().join("standby.signal");
        File::create(&signal).expect("leave the signal");
        self.0
            .installation
            .account
            .own(&signal)
            .expect("give it away");
    }

    /// The URL of the superuser for a database on this server.
    pub fn url(&self, database: &str) -> String {
        self.0.url(SUPERUSER, database)
    }

    /// Starts the server again after a stop, and returns when it accepts connections.
    pub async fn start(&self) {
        self.0.start().await;
    }

    /// Stops it as a crash would: no goodbye to clients, recovery at the next start.
    pub async fn stop_immediate(&self) {
        self.0.stop(Signal::QUIT).await;
    }

    /// Stops it in order, cutting off the clients.
    pub async fn stop_fast(&self) {
        self.0.stop(Signal::INT).await;
    }

    /// Kills the main process with `kill -9`; the others notice by themselves.
    pub async fn kill(&self) {
        self.0.stop(Signal::KILL).await;
    }

    /// Freezes all its processes: connections stay open and say nothing.
    pub fn suspend(&self) {
        self.0.signal_all(Signal::STOP);
    }

    /// Lets a suspended server go on.
    pub fn resume(&self) {
        self.0.signal_all(Signal::CONT);
    }

    /// Cuts off every client, and returns how many there were.
    pub async fn terminate_all(&self) -> i64 {
        let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        self.0
            .admin()
            .await
            .query_one(terminate, &[])
            .await
            .expect("cut off clients")
            .get(0)
    }

    /// A fresh database on this server.
    pub async fn database(&self) -> Database {
        Database::create_on(self.0.clone()).await
    }

    /// The folder with its socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.0.socket_dir()
    }
}

fn private_name() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("private-{}", MADE.fetch_add(1, Ordering::Relaxed))
}

fn make_folder(folder: &Path, mode: u32) {
    DirBuilder::new()
        .mode(mode)
        .create(folder)
        .unwrap_or_else(|error| panic!("could not make {}: {error}", folder.display()));
}

/// A client whose connection lives on the current runtime.
pub(super) async fn connect(url: &str) -> Client {
    match try_connect(url).await {
        Ok(client) => client,
        Err(error) => panic!("could not connect to {url}: {error:?}"),
    }
}

pub(super) async fn try_connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // Its end, good or bad, shows in the client.
    tokio::spawn(connection);
    Ok(client)
}
