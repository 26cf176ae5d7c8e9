//! A random history of a person, a host and faults, the same for the same seed.
//!
//! Three replicas work on twenty clusters while a person changes the rows, clusters
//! break on the host, commands fail, and one fault after the other occurs. The checks
//! are those of every fault, and none of them asks the daemon.

use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;
use tokio_postgres::Client;

use super::processes::{guards_of, signal_all};
use super::{converged, quick, report, rounds};
use crate::kit::{
    Daemon, Database, FaultKind, Host, InjectedFault, PrivateServer, Proxy, Sql, Traffic,
    eventually,
};

const CLUSTERS: usize = 20;
/// The operations between two pauses: a person's script writes faster than it reads.
const BURST: usize = 10;
const PAUSE: Duration = Duration::from_millis(60);
/// The operations from one fault to the next.
const CALM: usize = 120;

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// `kill -9` of a replica; a new one starts.
    Kill,
    /// A replica is suspended for less or more than its lease.
    Suspend,
    /// The same, together with its guards.
    SuspendWithGuards,
    /// `kill -9` of the guards of a replica.
    KillGuards,
    /// The server ends every session.
    TerminateSessions,
    /// The server crashes and starts again.
    CrashServer,
    /// The network forwards nothing for less or more than a lease.
    Stall,
    /// A connection ends between the effect of a statement and its answer.
    CutAnswer,
    /// A session keeps a row locked.
    LockRow,
}

const FAULTS: [Fault; 9] = [
    Fault::Kill,
    Fault::Suspend,
    Fault::SuspendWithGuards,
    Fault::KillGuards,
    Fault::TerminateSessions,
    Fault::CrashServer,
    Fault::Stall,
    Fault::CutAnswer,
    Fault::LockRow,
];

struct History {
    random: Rng,
    server: PrivateServer,
    database: Database,
    proxy: Proxy,
    host: Host,
    sql: Client,
    replicas: Vec<Daemon>,
}

impl History {
    async fn begin(seed: u64) -> Self {
        let server = PrivateServer::create_durable().await;
        let database = server.database().await.migrate().await;
        let (proxy, host) = (Proxy::to(&database).await, Host::new());
        host.control("create", "sleep 0.05");
        let mut history = Self {
            random: Rng::with_seed(seed),
            sql: database.connect().await,
            replicas: Vec::new(),
            server,
            database,
            proxy,
            host,
        };
        for _ in 0..3 {
            history.start_replica().await;
        }
        history
    }

    async fn start_replica(&mut self) {
        let replica = quick(&self.proxy.url(), &self.host)
            .set("KINDLER_HEALTH_INTERVAL", "1s")
            .set("KINDLER_DELETE_CAP", "0")
            .set("KINDLER_KILL_GRACE", "1s")
            .start()
            .await;
        self.replicas.push(replica);
    }

    fn cluster(&mut self) -> String {
        format!("c{}", self.random.usize(..CLUSTERS))
    }

    /// One thing that a person or the host does.
    async fn operate(&mut self) {
        let name = self.cluster();
        let of_name = format!("WHERE name = '{name}'");
        match self.random.u8(..100) {
            0..30 => self.desire(&name, "present").await,
            30..40 => self.desire(&name, "stopped").await,
            40..50 => self.desire(&name, "absent").await,
            50..55 => {
                self.sql
                    .run(&format!("DELETE FROM clusters {of_name}"))
                    .await
            }
            55..70 => {
                let port = self.random.u16(20_000..20_900);
                let change = format!("UPDATE clusters SET http_port = {port} {of_name}");
                self.sql.run(&change).await;
            }
            70..78 => {
                let paused = self.random.bool();
                let change = format!("UPDATE clusters SET paused = {paused} {of_name}");
                self.sql.run(&change).await;
            }
            78..84 => {
                let retry = "UPDATE clusters SET retry_requested_at = now()";
                self.sql.run(&format!("{retry} {of_name}")).await;
            }
            84..90 => self.change_host(&name),
            90..95 => {
                let shell = ["exit 1", "sleep 0.5", "setsid sleep 0.3 &"];
                let shell = shell[self.random.usize(..shell.len())];
                self.host.control(&format!("{name}.create"), shell);
            }
            95..98 => self.host.release(&format!("{name}.create")),
            98 => {
                let observation = ["probe", "exists"][self.random.usize(..2)];
                self.host.control(observation, "exit 126");
            }
            _ => {
                self.host.release("probe");
                self.host.release("exists");
            }
        }
    }

    async fn desire(&self, name: &str, desired: &str) {
        let insert = "INSERT INTO clusters (name, provider, desired_state)";
        let update = "ON CONFLICT (name) DO UPDATE SET desired_state = excluded.desired_state";
        let statement = format!("{insert} VALUES ('{name}', 'kind', '{desired}') {update}");
        self.sql.run(&statement).await;
    }

    /// A cluster is removed, breaks or stops without the daemon.
    fn change_host(&mut self, name: &str) {
        if self.host.cluster(name).is_some() {
            let states = [None, Some("unhealthy"), Some("stopped")];
            self.host.set_cluster(name, states[self.random.usize(..3)]);
        }
    }

    /// Less or more than the lease of two seconds.
    fn some_time(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(200..5_000))
    }

    async fn inject(&mut self, fault: Fault) {
        let victim = self.random.usize(..self.replicas.len());
        match fault {
            Fault::Kill => {
                self.replicas.swap_remove(victim).kill();
                self.start_replica().await;
            }
            Fault::Suspend => {
                self.replicas[victim].signal(Signal::STOP);
                tokio::time::sleep(self.some_time()).await;
                self.replicas[victim].signal(Signal::CONT);
            }
            Fault::SuspendWithGuards => {
                let time = self.some_time();
                let guards = guards_of(self.replicas[victim].pid());
                self.replicas[victim].signal(Signal::STOP);
                signal_all(&guards, Signal::STOP);
                tokio::time::sleep(time).await;
                signal_all(&guards, Signal::CONT);
                self.replicas[victim].signal(Signal::CONT);
            }
            Fault::KillGuards => {
                signal_all(&guards_of(self.replicas[victim].pid()), Signal::KILL);
            }
            Fault::TerminateSessions => {
                self.server.terminate_all().await;
                self.sql = self.database.connect().await;
            }
            Fault::CrashServer => {
                self.server.stop_immediate().await;
                self.server.start().await;
                self.sql = self.database.connect().await;
            }
            Fault::Stall => {
                self.proxy.set(Traffic::Stalls);
                tokio::time::sleep(self.some_time()).await;
                self.proxy.set(Traffic::Flows);
            }
            Fault::CutAnswer => self.cut_answer().await,
            Fault::LockRow => {
                let name = self.cluster();
                let session = self.database.connect().await;
                let lock = format!("BEGIN; SELECT FROM clusters WHERE name = '{name}' FOR UPDATE");
                session.run(&lock).await;
                tokio::time::sleep(self.some_time()).await;
                session.run("ROLLBACK").await;
            }
        }
    }

    async fn cut_answer(&mut self) {
        self.proxy.inject(InjectedFault {
            at: self.proxy.statements() + 1 + self.random.usize(..12),
            after: true,
            kind: FaultKind::Disconnect,
        });
        let proxy = &self.proxy;
        eventually(Duration::from_secs(30), "the disconnect", || async {
            proxy.fault_occurred()
        })
        .await;
    }

    /// Undoes what would keep the system from coming to rest, and checks it.
    async fn end(&mut self) {
        for cluster in 0..CLUSTERS {
            self.host.release(&format!("c{cluster}.create"));
        }
        self.host.release("probe");
        self.host.release("exists");
        self.sql.run("UPDATE clusters SET paused = false").await;
        let going = "SELECT count(*) FROM clusters WHERE desired_state = 'absent'";
        eventually(
            Duration::from_secs(60),
            "every absent row removed",
            || async { self.sql.number(going).await == 0 },
        )
        .await;
        converged(&self.sql, &self.host).await;
    }
}

/// Returns the number of faults.
async fn run(seed: u64, operations: usize) -> usize {
    println!("history of seed {seed}");
    let mut history = History::begin(seed).await;
    let mut faults = 0;
    for operation in 1..=operations {
        history.operate().await;
        if operation % CALM == 0 {
            let fault = FAULTS[history.random.usize(..FAULTS.len())];
            println!("seed {seed}, operation {operation}: {fault:?}");
            history.inject(fault).await;
            faults += 1;
        }
        if operation % BURST == 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
    history.end().await;
    faults
}

#[tokio::test]
async fn a_random_history_keeps_every_promise() {
    let (seeds, operations) = (rounds(1, 13), rounds(720, 3200));
    let mut faults = 0;
    for seed in 1..=seeds as u64 {
        faults += run(seed, operations).await;
    }
    report(
        "a random history",
        &format!(
            "{seeds} seeds, {} operations, {faults} faults, 0 overlaps, 0 stale fences, 0 orphans",
            seeds * operations
        ),
    );
}
