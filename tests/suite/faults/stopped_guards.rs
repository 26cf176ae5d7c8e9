//! A guard is stopped, so that its daemon has to end the command, while the daemon cannot
//! reach the database. Whatever the lifetime of the lease: the command ends before the
//! successor's starts.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::Client;

use super::processes::guards_of;
use super::{converged, report, rounds, spread};
use crate::kit::{Daemon, Database, Host, Proxy, Sql, TIMEOUT, Traffic, eventually, migrated};

/// A command that ignores TERM and has a child in another session.
const STUBBORN: &str = "trap '' TERM; setsid sleep 600 & while :; do sleep 1; done";

/// Lifetimes of leases in seconds; the first two are enough for the short form.
const LIFETIMES: [u64; 4] = [3, 10, 5, 15];

/// An owner behind a proxy whose create runs, and a successor beside it.
struct CutOffRig {
    database: Database,
    host: Host,
    sql: Client,
    proxy: Proxy,
    owner: Daemon,
    successor: Daemon,
}

impl CutOffRig {
    async fn new(lifetime: u64) -> Self {
        let (database, host) = (migrated().await, Host::new());
        let sql = database.connect().await;
        let proxy = Proxy::to(&database).await;
        host.control("create", STUBBORN);
        let start = |url: String| {
            Daemon::builder(&url, &host)
                .set("KINDLER_LEASE_TTL", format!("{lifetime}s"))
                .set("KINDLER_RESYNC_INTERVAL", "1s")
                .set("KINDLER_HEALTH_INTERVAL", "1h")
                .set("KINDLER_KILL_GRACE", "10s")
                .start()
        };
        let owner = start(proxy.url()).await;
        sql.declare("dev").await;
        host.wait_commands(1).await;
        let successor = start(database.url()).await;
        host.release("create");
        Self {
            database,
            host,
            sql,
            proxy,
            owner,
            successor,
        }
    }

    fn signal_guards(&self, signal: Signal) {
        let guards = guards_of(self.owner.pid());
        assert!(!guards.is_empty());
        for guard in guards {
            kill_process(Pid::from_raw(guard).unwrap(), signal).unwrap();
        }
    }

    /// Cuts the owner off and waits until the successor has created or deleted the cluster;
    /// returns how long that took.
    async fn cut_off(self) -> Duration {
        self.proxy.set(Traffic::Stalls);
        let cut = Instant::now();
        // The successor notices at once when the lease expires.
        self.sql
            .run("UPDATE clusters SET retry_requested_at = clock_timestamp()")
            .await;
        let left = "SELECT count(*) FROM clusters
                    WHERE desired_state <> 'present' OR actual_state <> 'running'";
        eventually(TIMEOUT * 2, "the work of the successor", || async {
            self.sql.number(left).await == 0
        })
        .await;
        let took = cut.elapsed();
        self.proxy.set(Traffic::Flows);
        self.owner.signal(Signal::CONT);
        for guard in guards_of(self.owner.pid()) {
            // It may end at any time.
            let _ = kill_process(Pid::from_raw(guard).unwrap(), Signal::CONT);
        }
        converged(&self.sql, &self.host).await;
        drop((self.successor, self.database));
        took
    }
}

/// Runs `fault` at several lifetimes at once, and reports how long the takeovers took.
async fn at_lifetimes(fault: &str, inject: impl AsyncFn(&CutOffRig)) {
    let lifetimes = &LIFETIMES[..rounds(2, LIFETIMES.len())];
    let mut takeovers = Vec::new();
    for _ in 0..rounds(1, 5) {
        let each = lifetimes.iter().map(async |lifetime| {
            let rig = CutOffRig::new(*lifetime).await;
            inject(&rig).await;
            rig.cut_off().await
        });
        takeovers.extend(join_all(each).await);
    }
    report(
        fault,
        &format!(
            "with leases of {lifetimes:?} s; taken over after {}, 0 overlaps",
            spread(takeovers)
        ),
    );
}

#[tokio::test]
async fn a_stopped_guards_command_ends_before_a_successors() {
    at_lifetimes("a stopped guard, its daemon cut off", async |rig| {
        rig.signal_guards(Signal::STOP);
    })
    .await;
}

/// The daemon has requested the end of the command, with a grace that is longer than the
/// lease, and the guard does not carry it out.
#[tokio::test]
async fn a_cancelled_command_ends_before_a_successors() {
    at_lifetimes("a stopped guard, a stop requested, cut off", async |rig| {
        rig.signal_guards(Signal::STOP);
        rig.sql.desire("dev", "absent").await;
        eventually(TIMEOUT, "the stop of the work", || async {
            rig.owner.log().contains("stopping the work")
        })
        .await;
    })
    .await;
}

/// No lease, no grace: the rest of the command's time would overlap with the next owner.
#[tokio::test]
async fn a_command_whose_lease_is_lost_is_killed_at_once() {
    let rig = CutOffRig::new(15).await;
    rig.sql
        .run("UPDATE cluster_leases SET owner = 'another', expires_at = '9999-01-01'")
        .await;
    let lost = Instant::now();
    rig.host.wait_commands(0).await;
    // It is noticed at the next renewal, within a quarter of the lease.
    let took = lost.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    rig.sql.run("DELETE FROM cluster_leases").await;
    converged(&rig.sql, &rig.host).await;
}
