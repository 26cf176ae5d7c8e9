//! Daemons that die, stop and wake up late, several at a time.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{converged, migrated, number, quick, report, rounds, run, spread};
use crate::kit::{Daemon, Host, eventually};

#[tokio::test]
async fn replicas_are_killed_at_random_while_clusters_change() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 0.1");
    host.control("delete", "sleep 0.1");
    let sql = database.connect().await;
    let mut replicas: Vec<Daemon> = Vec::new();
    for _ in 0..3 {
        replicas.push(quick(&database.url(), &host).spawn());
    }
    for replica in &replicas {
        replica.ready().await;
    }
    run(&sql, "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 50) n").await;
    for round in 0..rounds(30, 1000) {
        for n in 1..=50 {
            if fastrand::u8(..10) == 0 {
                let wish = ["present", "absent", "stopped"][fastrand::usize(..3)];
                run(&sql, &format!(
                    "INSERT INTO clusters (name, provider, desired_state) VALUES ('c{n}', 'kind', '{wish}')
                     ON CONFLICT (name) DO UPDATE SET desired_state = excluded.desired_state"
                )).await;
            }
        }
        // Somewhere within the work.
        let working = "SELECT count(*) FROM cluster_leases";
        eventually(Duration::from_secs(20), "somebody at work", || async {
            number(&sql, working).await > 0
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
    run(
        &sql,
        "UPDATE clusters SET desired_state = 'present' WHERE desired_state = 'absent'",
    )
    .await;
    converged(&sql, &host).await;
    report(
        "kill -9 of one replica of three",
        &format!(
            "{} kills, {} commands begun, 0 overlaps, 0 orphans",
            rounds(30, 1000),
            begun(&host)
        ),
    );
}

/// How many commands were begun.
fn begun(host: &Host) -> usize {
    let journal = host.journal();
    journal.iter().filter(|entry| entry.what == "start").count()
}

#[tokio::test]
async fn replicas_that_are_replaced_one_by_one_lose_nothing() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 0.2");
    let sql = database.connect().await;
    let mut replicas: Vec<Daemon> = Vec::new();
    for _ in 0..3 {
        replicas.push(quick(&database.url(), &host).spawn());
    }
    for replica in &replicas {
        replica.ready().await;
    }
    let mut ends = Vec::new();
    for round in 0..rounds(3, 30) {
        run(&sql, &format!(
            "INSERT INTO clusters (name, provider) SELECT 'r{round}-' || n, 'kind' FROM generate_series(1, 20) n"
        )).await;
        let began = Instant::now();
        let oldest = replicas.remove(0);
        assert!(oldest.stop().await.success());
        ends.push(began.elapsed());
        let next = quick(&database.url(), &host).spawn();
        next.ready().await;
        replicas.push(next);
    }
    converged(&sql, &host).await;
    // An end in order cuts no command short, so each was begun once.
    assert_eq!(begun(&host), rounds(3, 30) * 20);
    report(
        "a rolling restart",
        &format!(
            "{} clusters, each created once; ends {}",
            begun(&host),
            spread(ends)
        ),
    );
}

#[tokio::test]
async fn an_owner_that_sleeps_through_its_lease_writes_and_starts_nothing() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 0.2");
    let sql = database.connect().await;
    let replicas = [
        quick(&database.url(), &host).spawn(),
        quick(&database.url(), &host).spawn(),
    ];
    for replica in &replicas {
        replica.ready().await;
    }
    for round in 0..rounds(10, 200) {
        // One command lasts longer than any lease, if nobody ends it.
        let slow = format!("r{round}-1");
        host.control(
            &format!("{slow}.create"),
            r#": > "$here/asleep-$name"; sleep 600"#,
        );
        run(&sql, &format!(
            "INSERT INTO clusters (name, provider) SELECT 'r{round}-' || n, 'kind' FROM generate_series(1, 6) n"
        ))
        .await;
        eventually(Duration::from_secs(20), "the slow one at work", || async {
            host.path().join(format!("asleep-{slow}")).exists()
        })
        .await;
        let owner = format!(
            "SELECT split_part(owner, ':', 2)::bigint FROM cluster_leases WHERE cluster_name = '{slow}'"
        );
        let owner = number(&sql, &owner).await;
        let sleeper = replicas
            .iter()
            .find(|daemon| i64::from(daemon.pid()) == owner);
        let sleeper = sleeper.expect("one of them owns it");
        sleeper.signal(Signal::STOP);
        host.release(&format!("{slow}.create"));
        // Three leases long, or until the other has done everything.
        let asleep = Instant::now();
        eventually(Duration::from_secs(30), "three leases to pass", || async {
            asleep.elapsed() > Duration::from_secs(6)
        })
        .await;
        sleeper.signal(Signal::CONT);
        converged(&sql, &host).await;
    }
    report(
        "an owner stopped for three leases",
        &format!("{} times, 0 overlaps, 0 stale fences", rounds(10, 200)),
    );
}

#[tokio::test]
async fn a_takeover_comes_within_a_lease_and_five_seconds() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 600");
    let sql = database.connect().await;
    let first = quick(&database.url(), &host).spawn();
    first.ready().await;
    run(&sql, "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 3) n").await;
    eventually(Duration::from_secs(20), "the commands", || async {
        host.live_commands().len() == 3
    })
    .await;
    let second = quick(&database.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .spawn();
    second.ready().await;
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
fn guards_of(daemon: i32) -> Vec<i32> {
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

/// What befalls a daemon and the guards that it has started, all at once.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// Both are killed.
    Killed,
    /// Both stand still, as after `pkill -STOP kindler`.
    Stopped,
    /// The daemon stands still, its guards are killed.
    StoppedAndKilled,
}

fn strike(daemon: &Daemon, blow: Blow) {
    let guards = guards_of(daemon.pid());
    assert!(!guards.is_empty());
    // First the daemon, or it would mend what befalls its guards.
    daemon.signal(Signal::STOP);
    let signal = match blow {
        Blow::Stopped => Signal::STOP,
        Blow::Killed | Blow::StoppedAndKilled => Signal::KILL,
    };
    for guard in guards {
        let guard = rustix::process::Pid::from_raw(guard).unwrap();
        rustix::process::kill_process(guard, signal).unwrap();
    }
    if matches!(blow, Blow::Killed) {
        daemon.signal(Signal::KILL);
    }
}

/// Six commands run when the blow comes; the successor stands by, or is started
/// when the leases are over and all six can be taken at once.
async fn nobody_is_left_beside_the_successor(blow: Blow, stands_by: bool) {
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
    run(&sql, "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 6) n").await;
    eventually(Duration::from_secs(20), "the commands", || async {
        host.live_commands().len() == 6
    })
    .await;
    let standby = stands_by.then(start);
    if let Some(standby) = &standby {
        standby.ready().await;
    }
    strike(&first, blow);
    host.control("create", "sleep 0.1");
    let successor = if let Some(standby) = standby {
        standby
    } else {
        let over = "SELECT count(*) FROM cluster_leases WHERE expires_at < clock_timestamp()";
        eventually(Duration::from_secs(20), "the leases to end", || async {
            number(&sql, over).await == 6
        })
        .await;
        start()
    };
    converged(&sql, &host).await;
    if !matches!(blow, Blow::Killed) {
        first.signal(Signal::CONT);
    }
    converged(&sql, &host).await;
    assert!(successor.stop().await.success());
}

async fn again_and_again(blow: Blow) {
    for round in 0..rounds(2, 30) {
        nobody_is_left_beside_the_successor(blow, round % 2 == 0).await;
    }
    report(
        &format!("a daemon and its guards at once: {blow:?}"),
        &format!("{} times, 0 overlaps, 0 orphans", rounds(2, 30)),
    );
}

#[tokio::test]
async fn a_daemon_that_is_killed_with_its_guards_leaves_nobody_beside_its_successor() {
    again_and_again(Blow::Killed).await;
}

#[tokio::test]
async fn a_daemon_that_is_stopped_with_its_guards_leaves_nobody_beside_its_successor() {
    again_and_again(Blow::Stopped).await;
}

#[tokio::test]
async fn a_daemon_that_is_stopped_while_its_guards_are_killed_leaves_nobody_either() {
    again_and_again(Blow::StoppedAndKilled).await;
}
