//! At every database statement of the life of a cluster that is made in steps, one
//! at a time: the daemon is killed before it, or after it was carried out but not
//! answered, only its connection is cut, or the statement is refused. Each life
//! leaves one node, then none.

use std::time::Duration;

use super::rounds;
use crate::kit::{Blow, Daemon, Proxy, Trap, claim_port};
use crate::steps::rig::StepsRig;

/// Starts another daemon whenever the present one has ended; never returns.
async fn keep_running(rig: &StepsRig, proxy: &Proxy, daemon: &mut Daemon) {
    loop {
        if daemon.has_ended() {
            *daemon = rig.builder_with_url(&proxy.url()).spawn();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One life: made, moved to another port, removed; with a trap at a statement. How
/// many statements it took, and whether the trap went off.
async fn life(trap: Option<(usize, bool, Fault)>) -> (usize, bool) {
    let mut rig = StepsRig::new().await;
    let proxy = Proxy::before(&rig.database).await;
    let mut daemon = rig.builder_with_url(&proxy.url()).spawn();
    if let Some((at, after, fault)) = trap {
        let blow = match fault {
            Fault::Killed => Blow::Kill(daemon.pid()),
            Fault::Cut => Blow::Cut,
            Fault::Refused => Blow::Refuse,
        };
        proxy.trap(Trap { at, after, blow });
    }
    tokio::select! {
        () = rig.declare_and_wait() => {}
        () = keep_running(&rig, &proxy, &mut daemon) => {}
    }
    rig.assert_one_node();
    let folder = StepsRig::inode(&rig.folder());
    rig.port = claim_port();
    let port = rig.port.number;
    rig.run(&format!("UPDATE clusters SET http_port = {port}"))
        .await;
    tokio::select! {
        () = rig.wait_running() => {}
        () = keep_running(&rig, &proxy, &mut daemon) => {}
    }
    rig.assert_one_node();
    assert_eq!(
        StepsRig::inode(&rig.folder()),
        folder,
        "the folder was made again"
    );
    rig.delete().await;
    tokio::select! {
        () = rig.wait_removed() => {}
        () = keep_running(&rig, &proxy, &mut daemon) => {}
    }
    rig.assert_nothing_left().await;
    (proxy.statements(), trap.is_some() && proxy.sprung())
}

/// What befalls the daemon at a statement.
#[derive(Clone, Copy)]
enum Fault {
    Killed,
    Cut,
    Refused,
}

/// At some of the statements, a few lives at a time; in the long form at all.
async fn at_many_statements(after: bool, fault: Fault) {
    let (last, _) = life(None).await;
    assert!(last > 20, "a life of {last} statements is none");
    let numbers: Vec<usize> = (1..=last).step_by(last.div_ceil(rounds(8, last))).collect();
    let mut sprung = 0;
    for few in numbers.chunks(4) {
        let lives: Vec<_> = few
            .iter()
            .map(|at| tokio::spawn(life(Some((*at, after, fault)))))
            .collect();
        for life in lives {
            sprung += usize::from(life.await.expect("it converges").1);
        }
    }
    assert!(
        sprung * 2 > numbers.len(),
        "only {sprung} of {} traps went off",
        numbers.len()
    );
}

#[tokio::test]
async fn the_daemon_is_killed_before_a_statement_of_steps() {
    at_many_statements(false, Fault::Killed).await;
}

#[tokio::test]
async fn the_daemon_is_killed_after_a_statement_of_steps() {
    at_many_statements(true, Fault::Killed).await;
}

#[tokio::test]
async fn the_connection_is_cut_after_a_commit_of_steps() {
    at_many_statements(true, Fault::Cut).await;
}

#[tokio::test]
async fn a_statement_of_steps_is_refused() {
    at_many_statements(false, Fault::Refused).await;
}
