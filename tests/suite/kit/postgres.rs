//! The real Postgres of the tests: one server for all tests of a process, and private
//! servers for tests that stop, kill or suspend theirs.
//!
//! Data folders are copied from one that `initdb` made once per process. Servers are
//! not durable, except the durable ones for measurements. `KINDLER_POSTGRES_BIN` names the
//! folder of the server programs, as for the daemon; default: the newest installed ones.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
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

/// The time that a server may need to start or stop on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Settings of the tests: many connections, and no shared memory left by a killed
/// server.
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
    /// The address that it listens on besides its socket.
    address: Option<String>,
    child: Mutex<Option<Child>>,
    databases_made: AtomicU32,
    unused_databases: Mutex<Vec<String>>,
}

/// The binaries, the account that runs them, and a new data folder to copy.
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
            let chosen = std::env::var_os("KINDLER_POSTGRES_BIN").map(PathBuf::from);
            let binaries = Binaries::find(chosen.as_deref(), None).expect("find a Postgres");
            let account = Account::for_new_data().expect("choose the account of Postgres");
            let pristine_data = run_folder().join("pristine");
            let _ = fs::remove_dir_all(&pristine_data);
            initdb(&pristine_data, account, &binaries, false)
                .await
                .expect("create a data folder");
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
        server.copy_data(&server.installation.pristine_data);
        server
    }

    /// A streaming standby of a primary that is stopped at this moment.
    async fn make_standby(name: &str, primary: &Self) -> Self {
        let server = Self::without_data(name, false).await;
        server.copy_data(&primary.data());
        let socket = primary.socket_dir();
        let upstream = format!(
            "primary_conninfo = 'host={} user={SUPERUSER}'\n",
            socket.display()
        );
        let mut settings = File::options()
            .append(true)
            .open(server.data().join("postgresql.auto.conf"))
            .expect("open the settings");
        settings
            .write_all(upstream.as_bytes())
            .expect("write the settings");
        server.become_standby();
        server
    }

    fn copy_data(&self, of: &Path) {
        let copied = Command::new("cp")
            .arg("-a")
            .args([of, &self.data()])
            .status();
        assert!(
            copied.is_ok_and(|status| status.success()),
            "could not copy the data folder"
        );
    }

    /// Accepts connections on this address, from its own network, without a password.
    fn listen_on(&mut self, address: &str) {
        let mut rules = File::options()
            .append(true)
            .open(self.data().join("pg_hba.conf"))
            .expect("open pg_hba.conf");
        writeln!(rules, "host all all {address}/30 trust").expect("write pg_hba.conf");
        self.address = Some(address.to_owned());
    }

    /// The server starts as a standby from now on.
    fn become_standby(&self) {
        let signal = self.data().join("standby.signal");
        File::create(&signal).expect("create standby.signal");
        self.installation
            .account
            .own(&signal)
            .expect("change the owner of standby.signal");
    }

    async fn without_data(name: &str, durable: bool) -> Self {
        let installation = installation().await;
        let folder = run_folder().join(name);
        make_folder(&folder, 0o711);
        make_folder(&folder.join("run"), 0o700);
        installation
            .account
            .own(&folder.join("run"))
            .expect("change the owner of the socket folder");
        Self {
            installation,
            folder,
            durable,
            address: None,
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

    /// A connection of the superuser to the database `postgres`.
    pub(super) async fn admin(&self) -> Client {
        connect(&self.url(SUPERUSER, "postgres")).await
    }

    /// Starts the server and waits until it accepts connections.
    async fn start(&self) {
        // After a kill, the child processes need a moment to end, and would prevent the
        // start.
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
        if let Some(address) = &self.address {
            command.args(["-c", &format!("listen_addresses={address}")]);
        }
        command
            .stdout(output.try_clone().expect("duplicate the log handle"))
            .stderr(output);
        let child = command.process_group(0).spawn().expect("start Postgres");
        *self.child() = Some(child);

        eventually(DEADLINE, "Postgres to accept connections", || async {
            if let Some(status) = self.exit_status() {
                let log = fs::read_to_string(&log).unwrap_or_default();
                panic!("Postgres ended during its start ({status}); its log:\n{log}");
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
            .expect("wait for Postgres")
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
            // A process that ended meanwhile needs no signal.
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

    /// Creates a database with these options and returns its name.
    pub(super) async fn make_database(&self, options: &str) -> String {
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
        // template0 accepts no connections, so many tests can copy it at once.
        let create = format!("CREATE DATABASE {name} TEMPLATE template0 {options}");
        admin
            .batch_execute(&create)
            .await
            .expect("create a database for a test");
        name
    }

    /// Marks a database for deletion by the next test that creates one, because a
    /// `Drop` cannot wait.
    pub(super) fn mark_unused(&self, name: String) {
        self.unused_databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name);
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.signal(Signal::QUIT);
        // A suspended server must be resumed to receive the signal.
        self.signal_all(Signal::CONT);
        if let Some(child) = self.child().as_mut() {
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A private server for a test that stops, kills or suspends it.
#[derive(Clone, Debug)]
pub struct PrivateServer(Arc<TestServer>);

impl PrivateServer {
    /// Makes a server and starts it.
    pub async fn create() -> Self {
        Self::make(false).await
    }

    /// The same, but commits wait for the disk.
    pub async fn create_durable() -> Self {
        Self::make(true).await
    }

    /// The same, with these files in its data folder (such as `server.crt`), and listening
    /// on an address of its own.
    pub async fn create_on_address(files: &[(&str, Vec<u8>)]) -> (Self, String) {
        let name = private_name();
        let mut server = TestServer::make(&name, false).await;
        for (file, content) in files {
            let path = server.data().join(file);
            fs::write(&path, content).expect("write a file of the server");
            // Of a key only the owner may read it.
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(&path, mode).expect("protect a file of the server");
            let account = &server.installation.account;
            account.own(&path).expect("change the owner of a file");
        }
        // No other server listens there: the port must be that of the socket's name.
        let [.., high, low] = std::process::id().to_be_bytes();
        let number = name.rsplit('-').next().unwrap();
        let address = format!(
            "127.{}.{high}.{low}",
            100 + number.parse::<u32>().unwrap() % 100
        );
        server.address = Some(address.clone());
        let server = Self(Arc::new(server));
        server.start().await;
        (server, address)
    }

    /// The same as [`PrivateServer::create`], reachable on an address of this machine too.
    pub async fn create_on(address: &str) -> Self {
        let mut server = TestServer::make(&private_name(), false).await;
        server.listen_on(address);
        let server = Self(Arc::new(server));
        server.start().await;
        server
    }

    async fn make(durable: bool) -> Self {
        let server = Self(Arc::new(TestServer::make(&private_name(), durable).await));
        server.start().await;
        server
    }

    /// Makes a streaming standby of this server and starts it. This server restarts.
    pub async fn standby(&self) -> Self {
        self.stop_fast().await;
        let standby = TestServer::make_standby(&private_name(), &self.0).await;
        let standby = Self(Arc::new(standby));
        self.start().await;
        standby.start().await;
        standby
    }

    /// Promotes a standby to primary.
    pub async fn promote(&self) {
        let promoted = self
            .0
            .admin()
            .await
            .query_one("SELECT pg_promote()", &[])
            .await;
        assert!(
            promoted.expect("promote").get::<_, bool>(0),
            "the promotion timed out"
        );
    }

    /// Makes a stopped server a standby: it serves again, but only reads.
    pub fn demote(&self) {
        self.0.become_standby();
    }

    /// The URL of the superuser for a database on this server.
    pub fn url(&self, database: &str) -> String {
        self.0.url(SUPERUSER, database)
    }

    /// Starts the server again after a stop, and waits until it accepts connections.
    pub async fn start(&self) {
        self.0.start().await;
    }

    /// Stops it as in a crash: clients get no message, and the next start recovers.
    pub async fn stop_immediate(&self) {
        self.0.stop(Signal::QUIT).await;
    }

    /// Stops it in order, and terminates the sessions.
    pub async fn stop_fast(&self) {
        self.0.stop(Signal::INT).await;
    }

    /// Kills the main process with `kill -9`; the others end by themselves.
    pub async fn kill(&self) {
        self.0.stop(Signal::KILL).await;
    }

    /// Suspends all its processes: connections stay open without an answer.
    pub fn suspend(&self) {
        self.0.signal_all(Signal::STOP);
    }

    /// Resumes a suspended server.
    pub fn resume(&self) {
        self.0.signal_all(Signal::CONT);
    }

    /// Terminates every session, and returns their number.
    pub async fn terminate_all(&self) -> i64 {
        let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        self.0
            .admin()
            .await
            .query_one(terminate, &[])
            .await
            .expect("terminate the sessions")
            .get(0)
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.0.folder.join("postgres.log")).unwrap_or_default()
    }

    /// A new database on this server.
    pub async fn database(&self) -> Database {
        Database::create_on(self.0.clone(), "").await
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

/// A client whose connection runs on the current runtime.
pub(super) async fn connect(url: &str) -> Client {
    match try_connect(url).await {
        Ok(client) => client,
        Err(error) => panic!("could not connect to {url}: {error:?}"),
    }
}

pub(super) async fn try_connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // The client shows when the connection ends.
    tokio::spawn(connection);
    Ok(client)
}
