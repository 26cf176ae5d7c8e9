//! Daemons that die, stop and wake up late, several at a time.

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
    for round in 0..rounds(10, 1000) {
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
            rounds(10, 1000),
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
    for round in 0..rounds(3, 200) {
        run(&sql, &format!(
            "INSERT INTO clusters (name, provider) SELECT 'r{round}-' || n, 'kind' FROM generate_series(1, 6) n"
        )).await;
        let working = "SELECT count(DISTINCT owner) FROM cluster_leases";
        eventually(Duration::from_secs(20), "somebody at work", || async {
            number(&sql, working).await > 0
        })
        .await;
        let sleeper = &replicas[round % 2];
        sleeper.signal(Signal::STOP);
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
        &format!("{} times, 0 overlaps, 0 stale fences", rounds(3, 200)),
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
