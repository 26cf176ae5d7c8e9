//! Several daemons are killed, replaced, suspended and resumed.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};

use super::{converged, quick, report, rounds, spread};
use crate::kit::{Daemon, Database, Host, Sql, eventually, migrated};

/// Starts this many daemons at once and waits until all are ready.
async fn replicas(database: &Database, host: &Host, count: usize) -> Vec<Daemon> {
    let url = database.url();
    join_all((0..count).map(|_| quick(&url, host).start())).await
}

#[tokio::test]
async fn converges_while_replicas_are_killed_at_random() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 0.1");
    host.control("delete", "sleep 0.1");
    let sql = database.connect().await;
    let mut replicas = replicas(&database, &host, 3).await;
    sql.declare_many("c", 50).await;
    for round in 0..rounds(30, 1000) {
        for n in 1..=50 {
            if fastrand::u8(..10) == 0 {
                let desired = ["present", "absent", "stopped"][fastrand::usize(..3)];
                sql.run(&format!(
                    "INSERT INTO clusters (name, provider, desired_state) VALUES ('c{n}', 'kind', '{desired}')
                     ON CONFLICT (name) DO UPDATE SET desired_state = excluded.desired_state"
                )).await;
            }
        }
        // The kill comes while work runs.
        let working = "SELECT count(*) FROM cluster_leases";
        eventually(Duration::from_secs(20), "a leased cluster", || async {
            sql.number(working).await > 0
        })
        .await;
        let victim = fastrand::usize(..replicas.len());
        replicas.swap_remove(victim).kill();
        let next = quick(&database.url(), &host).spawn();
        if round % 2 == 0 {
            next.ready().await;
        }
        replicas.push(next);
    }
    sql.run("UPDATE clusters SET desired_state = 'present' WHERE desired_state = 'absent'")
        .await;
    converged(&sql, &host).await;
    report(
        "kill -9 of one replica of three",
        &format!(
            "{} kills, {} commands begun, 0 overlaps, 0 orphans",
            rounds(30, 1000),
            started(&host)
        ),
    );
}

/// The number of commands that were started.
fn started(host: &Host) -> usize {
    let journal = host.journal();
    journal.iter().filter(|entry| entry.what == "start").count()
}

#[tokio::test]
async fn a_rolling_restart_loses_nothing() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 0.2");
    let sql = database.connect().await;
    // Longer than a short command takes on a busy machine.
    let url = database.url();
    let start = || {
        quick(&url, &host)
            .set("KINDLER_SHUTDOWN_GRACE", "60s")
            .start()
    };
    let mut replicas = join_all((0..3).map(|_| start())).await;
    let mut ends = Vec::new();
    for round in 0..rounds(3, 30) {
        sql.declare_many(&format!("r{round}-"), 20).await;
        let began = Instant::now();
        let oldest = replicas.remove(0);
        assert!(oldest.stop().await.success());
        ends.push(began.elapsed());
        replicas.push(start().await);
    }
    converged(&sql, &host).await;
    // An orderly shutdown cancels no short command, so each cluster was created once.
    assert_eq!(started(&host), rounds(3, 30) * 20);
    report(
        "a rolling restart",
        &format!(
            "{} clusters, each created once; shutdowns {}",
            started(&host),
            spread(ends)
        ),
    );
}

#[tokio::test]
async fn an_owner_suspended_past_its_lease_has_no_effect() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 0.2");
    let sql = database.connect().await;
    let replicas = replicas(&database, &host, 2).await;
    for round in 0..rounds(10, 200) {
        // Unless it is ended, this command lasts longer than any lease.
        let slow = format!("r{round}-1");
        host.control(
            &format!("{slow}.create"),
            r#": > "$here/started-$name"; sleep 600"#,
        );
        sql.declare_many(&format!("r{round}-"), 6).await;
        eventually(Duration::from_secs(20), "the slow create", || async {
            host.path().join(format!("started-{slow}")).exists()
        })
        .await;
        let owner = format!(
            "SELECT split_part(owner, ':', 2)::bigint FROM cluster_leases WHERE cluster_name = '{slow}'"
        );
        let owner = sql.number(&owner).await;
        let owner = replicas
            .iter()
            .find(|daemon| i64::from(daemon.pid()) == owner);
        let owner = owner.expect("one of them is the owner");
        owner.signal(Signal::STOP);
        host.release(&format!("{slow}.create"));
        // The owner stays suspended for three lease times.
        let suspended = Instant::now();
        eventually(Duration::from_secs(30), "three lease times", || async {
            suspended.elapsed() > Duration::from_secs(6)
        })
        .await;
        owner.signal(Signal::CONT);
        converged(&sql, &host).await;
    }
    report(
        "an owner suspended for three lease times",
        &format!("{} times, 0 overlaps, 0 stale fences", rounds(10, 200)),
    );
}

#[tokio::test]
async fn a_takeover_takes_at_most_a_lease_and_five_seconds() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 600");
    let sql = database.connect().await;
    let first = quick(&database.url(), &host).start().await;
    sql.declare_many("c", 3).await;
    host.wait_commands(3).await;
    let _second = quick(&database.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .start()
        .await;
    host.release("create");
    first.kill();
    let killed = Instant::now();
    converged(&sql, &host).await;
    assert!(
        killed.elapsed() < Duration::from_secs(7),
        "{:?}",
        killed.elapsed()
    );
}

/// The guards that a daemon has started.
pub(crate) fn guards_of(daemon: i32) -> Vec<i32> {
    let is_guard = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.starts_with(b"kindler\0guard\0"))
    };
    let threads = fs::read_dir(format!("/proc/{daemon}/task")).unwrap();
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<i32>>()
        })
        .filter(is_guard)
        .collect()
}

/// Signals these processes; one that has ended meanwhile needs no signal.
pub(super) fn signal_all(processes: &[i32], signal: Signal) {
    for process in processes {
        let _ = kill_process(Pid::from_raw(*process).unwrap(), signal);
    }
}

/// What happens at once to a daemon and the guards that it has started.
#[derive(Clone, Copy, Debug)]
enum GuardFault {
    /// Both are killed.
    Killed,
    /// Both are suspended, as by `pkill -STOP kindler`.
    Stopped,
    /// The daemon is suspended, its guards are killed.
    StoppedAndKilled,
}

fn inject(daemon: &Daemon, fault: GuardFault) {
    let guards = guards_of(daemon.pid());
    assert!(!guards.is_empty());
    // First the daemon, or it would react to the end of its guards.
    daemon.signal(Signal::STOP);
    let signal = match fault {
        GuardFault::Stopped => Signal::STOP,
        GuardFault::Killed | GuardFault::StoppedAndKilled => Signal::KILL,
    };
    signal_all(&guards, signal);
    if matches!(fault, GuardFault::Killed) {
        daemon.signal(Signal::KILL);
    }
}

/// Six commands run when the fault occurs. The successor runs already, or starts when
/// all leases have expired and it can claim all six at once.
async fn no_process_runs_beside_the_successor(fault: GuardFault, already_runs: bool) {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "setsid sleep 600 & sleep 600");
    let sql = database.connect().await;
    let start = || {
        quick(&database.url(), &host)
            .set("KINDLER_CONCURRENCY", "6")
            .spawn()
    };
    let first = start();
    first.ready().await;
    sql.declare_many("c", 6).await;
    host.wait_commands(6).await;
    let standby = already_runs.then(start);
    if let Some(standby) = &standby {
        standby.ready().await;
    }
    inject(&first, fault);
    host.control("create", "sleep 0.1");
    let successor = if let Some(standby) = standby {
        standby
    } else {
        let over = "SELECT count(*) FROM cluster_leases WHERE expires_at < clock_timestamp()";
        sql.wait_number(over, 6).await;
        start()
    };
    converged(&sql, &host).await;
    if !matches!(fault, GuardFault::Killed) {
        first.signal(Signal::CONT);
    }
    converged(&sql, &host).await;
    assert!(successor.stop().await.success());
}

async fn repeat_fault(fault: GuardFault) {
    for round in 0..rounds(2, 30) {
        no_process_runs_beside_the_successor(fault, round % 2 == 0).await;
    }
    report(
        &format!("a daemon and its guards at once: {fault:?}"),
        &format!("{} times, 0 overlaps, 0 orphans", rounds(2, 30)),
    );
}

#[tokio::test]
async fn a_daemon_killed_with_its_guards_leaves_no_process() {
    repeat_fault(GuardFault::Killed).await;
}

#[tokio::test]
async fn a_daemon_suspended_with_its_guards_leaves_no_process() {
    repeat_fault(GuardFault::Stopped).await;
}

#[tokio::test]
async fn a_suspended_daemon_with_killed_guards_leaves_no_process() {
    repeat_fault(GuardFault::StoppedAndKilled).await;
}
