//! A lease that is longer than outages of the database: running commands go on meanwhile, and
//! on the same host a dead owner is proven dead by its lock, so its lease need not expire.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::Client;

use super::processes::guards_of;
use super::{converged, quick, report, rounds, spread};
use crate::kit::{
    Daemon, DaemonBuilder, Database, Host, PrivateServer, Sql, TIMEOUT, eventually, migrated,
};

/// Longer than any test.
const LEASE: &str = "10m";

fn with_long_lease(database: &Database, host: &Host) -> DaemonBuilder {
    quick(&database.url(), host).set("KINDLER_LEASE_TTL", LEASE)
}

async fn pause(long: Duration) {
    let began = Instant::now();
    eventually(long * 2, "the end of a pause", || async {
        began.elapsed() >= long
    })
    .await;
}

/// A create that runs until the file `live/go` exists.
fn create_waits(host: &Host) {
    host.control(
        "create",
        "while [ ! -e \"$here/live/go\" ]; do sleep 0.05; done",
    );
}

fn let_creates_end(host: &Host) {
    std::fs::write(host.path().join("live/go"), "").unwrap();
}

/// Three times the lease that `quick` sets.
const OUTAGE: Duration = Duration::from_secs(6);

async fn outage_interrupts_nothing(begin: impl AsyncFn(&Client), end: impl AsyncFn(&Client)) {
    let server = PrivateServer::create().await;
    let (database, host) = (server.database().await.migrate().await, Host::new());
    create_waits(&host);
    let daemon = with_long_lease(&database, &host).start().await;
    let (sql, other) = (database.connect().await, database.connect().await);
    sql.declare_many("c", 2).await;
    host.wait_commands(2).await;
    begin(&other).await;
    pause(OUTAGE).await;
    end(&other).await;
    host.wait_commands(2).await;
    let_creates_end(&host);
    converged(&sql, &host).await;
    for name in ["c1", "c2"] {
        assert_eq!(host.started(name), ["create"], "{:#?}", host.journal());
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_locked_table_ends_no_running_create() {
    outage_interrupts_nothing(
        async |sql| sql.run("BEGIN; LOCK TABLE cluster_leases, clusters").await,
        async |sql| sql.run("COMMIT").await,
    )
    .await;
}

#[tokio::test]
async fn a_server_that_takes_no_writes_ends_no_running_create() {
    let set = async |sql: &Client, value: &str| {
        let system = "ALTER SYSTEM SET default_transaction_read_only";
        sql.run("SET default_transaction_read_only = off").await;
        sql.run(&format!("{system} = {value}")).await;
        sql.run("SELECT pg_reload_conf()").await;
    };
    outage_interrupts_nothing(
        async |sql| set(sql, "on").await,
        async |sql| {
            set(sql, "off").await;
        },
    )
    .await;
}

/// Every process of the daemon, or the daemon alone, is killed while creates run, whose own
/// processes left their session. The successor runs already, or is started.
async fn killed(already_runs: bool, with_guards: bool) -> Duration {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "setsid sleep 600 & sleep 600");
    let sql = database.connect().await;
    let first = with_long_lease(&database, &host).start().await;
    sql.declare_many("c", 3).await;
    host.wait_commands(3).await;
    let second = async || with_long_lease(&database, &host).start().await;
    let successor: Option<Daemon> = if already_runs {
        Some(second().await)
    } else {
        None
    };
    host.release("create");
    if with_guards {
        let guards = guards_of(first.pid());
        first.signal(Signal::STOP);
        for guard in guards {
            kill_process(Pid::from_raw(guard).unwrap(), Signal::KILL).unwrap();
        }
    }
    first.kill();
    let began = Instant::now();
    let successor = match successor {
        Some(successor) => successor,
        None => second().await,
    };
    converged(&sql, &host).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(30), "taken over after {took:?}");
    let owners = "SELECT count(*) FROM kindler_replicas";
    sql.wait_number(owners, 1).await;
    successor.stop().await;
    took
}

#[tokio::test]
async fn on_its_host_a_dead_owner_is_replaced_at_once() {
    let mut taken = Vec::new();
    for round in 0..rounds(4, 40) {
        taken.push(killed(round % 2 == 0, round / 2 % 2 == 0).await);
    }
    report(
        "kill -9 of an owner with leases of 10 min, on the same host",
        &format!(
            "{} times, 0 overlaps; converged {}",
            taken.len(),
            spread(taken)
        ),
    );
}

#[tokio::test]
async fn a_suspended_owner_keeps_its_leases() {
    let (database, host) = (migrated().await, Host::new());
    create_waits(&host);
    let sql = database.connect().await;
    let first = with_long_lease(&database, &host).start().await;
    sql.declare("dev").await;
    host.wait_commands(1).await;
    let second = with_long_lease(&database, &host).start().await;
    first.signal(Signal::STOP);
    // The second one looks for ended owners every 5 s.
    pause(Duration::from_secs(12)).await;
    assert_eq!(host.started("dev"), ["create"]);
    first.signal(Signal::CONT);
    let_creates_end(&host);
    converged(&sql, &host).await;
    assert_eq!(host.started("dev"), ["create"]);
    first.stop().await;
    second.stop().await;
}

/// The server runs the claim of an owner that is killed meanwhile, and commits it after the
/// owner's leases were released.
#[tokio::test]
async fn a_claim_in_flight_of_a_killed_owner_is_released() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    // The first claim waits for the lock, also beyond the limits of its session.
    sql.run(
        "CREATE SEQUENCE claimed;
         CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
         BEGIN
             IF nextval('public.claimed') = 1 THEN
                 PERFORM set_config('lock_timeout', '0', true);
                 BEGIN
                     PERFORM pg_advisory_xact_lock(7);
                 EXCEPTION WHEN query_canceled THEN
                     PERFORM pg_advisory_xact_lock(7);
                 END;
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER a_slow AFTER INSERT ON cluster_leases
         FOR EACH ROW EXECUTE FUNCTION slow();
         SELECT pg_advisory_lock(7)",
    )
    .await;
    let first = with_long_lease(&database, &host).start().await;
    sql.declare("dev").await;
    let claiming = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    sql.wait_number(claiming, 1).await;
    first.kill();
    let second = with_long_lease(&database, &host).start().await;
    eventually(TIMEOUT, "the release of its leases", || async {
        second.log().contains("an owner on this host has ended")
    })
    .await;
    sql.run("SELECT pg_advisory_unlock(7)").await;
    converged(&sql, &host).await;
    assert_eq!(host.started("dev"), ["create"]);
    second.stop().await;
}

/// A command that has closed what it inherited holds no lock of its owner.
#[tokio::test]
async fn an_owner_whose_command_closed_its_files_is_replaced() {
    let (database, host) = (migrated().await, Host::new());
    host.control(
        "create",
        "for n in 3 4 5 6 7 8 9; do eval \"exec $n>&-\"; done; sleep 600",
    );
    let sql = database.connect().await;
    let first = with_long_lease(&database, &host).start().await;
    let second = with_long_lease(&database, &host).start().await;
    sql.declare_many("c", 3).await;
    host.wait_commands(3).await;
    host.release("create");
    for daemon in [&first, &second] {
        daemon.signal(Signal::STOP);
    }
    for guard in guards_of(first.pid())
        .into_iter()
        .chain(guards_of(second.pid()))
    {
        kill_process(Pid::from_raw(guard).unwrap(), Signal::KILL).unwrap();
    }
    first.kill();
    second.kill();
    let third = with_long_lease(&database, &host).start().await;
    converged(&sql, &host).await;
    third.stop().await;
}

/// What owners of earlier boots of this host have left.
#[tokio::test]
async fn files_of_earlier_boots_are_removed() {
    let (database, host) = (migrated().await, Host::new());
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let owners = host.state_dir().join("owners");
    let file = |boot: &str, file: &str| {
        std::fs::create_dir_all(owners.join(boot)).unwrap();
        std::fs::write(owners.join(boot).join(file), "").unwrap();
    };
    let own = format!("{}:1:00000000", name.trim());
    file("earlier", &own);
    file("earlier", &format!(".{own}"));
    file("foreign", "another-host:1:00000000");
    file("locked", &own);
    let locked = std::fs::File::open(owners.join("locked").join(&own)).unwrap();
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockShared).unwrap();
    let daemon = with_long_lease(&database, &host).start().await;
    let mut left: Vec<_> = std::fs::read_dir(&owners)
        .unwrap()
        .map(|boot| boot.unwrap().file_name().into_string().unwrap())
        .filter(|boot| ["earlier", "foreign", "locked"].contains(&boot.as_str()))
        .collect();
    left.sort();
    assert_eq!(left, ["foreign", "locked"]);
    daemon.stop().await;
}

/// An orderly end leaves nothing; `kill -9` leaves a file, which the next daemon removes.
#[tokio::test]
async fn locks_of_ended_owners_are_removed() {
    let (database, host) = (migrated().await, Host::new());
    let files = || {
        let boots = std::fs::read_dir(host.state_dir().join("owners")).unwrap();
        boots
            .flat_map(|boot| std::fs::read_dir(boot.unwrap().path()).unwrap())
            .count()
    };
    let first = with_long_lease(&database, &host).start().await;
    assert_eq!(files(), 1);
    first.kill();
    assert_eq!(files(), 1);
    let second = with_long_lease(&database, &host).start().await;
    let only = "SELECT count(*) FROM kindler_replicas";
    let sql = database.connect().await;
    sql.wait_number(only, 1).await;
    eventually(TIMEOUT, "the removal of the file", || async {
        files() == 1
    })
    .await;
    second.stop().await;
    assert_eq!(files(), 0);
}
