//! At every database statement of a cluster's life, one at a time: the daemon
//! is killed before it, killed after it was carried out but not answered, only
//! its connection is cut, before or after, or the statement is refused with an
//! error. All must converge.

use std::time::Duration;

use tokio_postgres::Client;

use super::{converged, migrated, number, quick, rounds, run};
use crate::kit::{Blow, Daemon, Host, Proxy, Trap};

/// One life: made, changed, stopped, started, and another one deleted.
pub(super) const STEPS: [(&str, &str); 5] = [
    (
        "INSERT INTO clusters (name, provider) VALUES ('kept', 'k3d'), ('gone', 'k3d')",
        "SELECT count(*) - 2 FROM clusters WHERE actual_state = 'running'",
    ),
    (
        "UPDATE clusters SET http_port = 18999 WHERE name = 'kept'",
        "SELECT count(*) - 1 FROM clusters WHERE name = 'kept' AND actual_state = 'running' AND observed_generation = 2",
    ),
    (
        "UPDATE clusters SET desired_state = 'stopped' WHERE name = 'kept'",
        "SELECT count(*) - 1 FROM clusters WHERE name = 'kept' AND actual_state = 'stopped'",
    ),
    (
        "DELETE FROM clusters WHERE name = 'gone'",
        "SELECT count(*) FROM clusters WHERE name = 'gone'",
    ),
    (
        "UPDATE clusters SET desired_state = 'present' WHERE name = 'kept'",
        "SELECT count(*) - 1 FROM clusters WHERE name = 'kept' AND actual_state = 'running'",
    ),
];

/// Goes through the life; the daemon is started again when it was killed.
pub(super) async fn live(sql: &Client, host: &Host, url: &str, mut daemon: Daemon) {
    for (change, done) in STEPS {
        run(sql, change).await;
        let giving_up = std::time::Instant::now() + Duration::from_secs(60);
        while number(sql, done).await != 0 {
            if daemon.has_ended() {
                daemon = quick(url, host).spawn();
            }
            assert!(
                std::time::Instant::now() < giving_up,
                "stuck at {change}\n{}",
                daemon.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    if daemon.has_ended() {
        daemon = quick(url, host).spawn();
        daemon.ready().await;
    }
    converged(sql, host).await;
    drop(daemon);
}

/// What befalls the daemon at a statement.
#[derive(Clone, Copy)]
enum Fault {
    Killed,
    Cut,
    Refused,
}

/// One life with a trap; whether there was such a statement.
async fn with_trap(at: usize, after: bool, fault: Fault) -> bool {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let proxy = Proxy::before(&database).await;
    let daemon = quick(&proxy.url(), &host).spawn();
    proxy.trap(Trap {
        at,
        after,
        blow: match fault {
            Fault::Killed => Blow::Kill(daemon.pid()),
            Fault::Cut => Blow::Cut,
            Fault::Refused => Blow::Refuse,
        },
    });
    live(&sql, &host, &proxy.url(), daemon).await;
    proxy.sprung()
}

/// How many statements an undisturbed life takes.
async fn statements() -> usize {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let proxy = Proxy::before(&database).await;
    let daemon = quick(&proxy.url(), &host).spawn();
    live(&sql, &host, &proxy.url(), daemon).await;
    proxy.statements()
}

/// Every `step`th statement, a few lives at a time.
async fn at_many_statements(after: bool, fault: Fault) {
    let last = statements().await;
    assert!(last > 20, "a life of {last} statements is none");
    let step = last.div_ceil(rounds(8, last));
    let mut sprung = 0;
    let numbers: Vec<usize> = (1..=last).step_by(step).collect();
    for few in numbers.chunks(4) {
        let lives: Vec<_> = few
            .iter()
            .map(|at| tokio::spawn(with_trap(*at, after, fault)))
            .collect();
        for life in lives {
            sprung += usize::from(life.await.expect("it converges"));
        }
    }
    assert!(
        sprung * 2 > numbers.len(),
        "only {sprung} of {} traps went off",
        numbers.len()
    );
}

#[tokio::test]
async fn the_daemon_is_killed_before_a_statement() {
    at_many_statements(false, Fault::Killed).await;
}

#[tokio::test]
async fn the_daemon_is_killed_after_a_statement_and_before_its_answer() {
    at_many_statements(true, Fault::Killed).await;
}

#[tokio::test]
async fn the_connection_is_cut_before_a_statement() {
    at_many_statements(false, Fault::Cut).await;
}

#[tokio::test]
async fn the_connection_is_cut_after_the_commit() {
    at_many_statements(true, Fault::Cut).await;
}

#[tokio::test]
async fn a_statement_is_refused() {
    at_many_statements(false, Fault::Refused).await;
}
