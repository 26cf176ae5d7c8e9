//! At every database statement in the lifecycle of a cluster that is created in steps, one
//! at a time: the daemon is killed before the statement, or after its execution and
//! before its answer; the connection is closed; or the statement is rejected. Each lifecycle
//! leads to one node, then to none.

use std::time::Duration;

use super::at_many_points;
use super::every_statement::{DISCONNECT, Fault, REFUSE};
use crate::kit::{Daemon, FaultKind, InjectedFault, Proxy};
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

/// One lifecycle with a fault at a statement: created, moved to another port, removed.
/// Returns the number of statements, and whether the fault occurred.
async fn lifecycle(fault: Option<(usize, bool, Fault)>) -> (usize, bool) {
    let mut rig = StepsRig::new().await;
    let proxy = Proxy::to(&rig.database).await;
    let mut daemon = rig.builder_with_url(&proxy.url()).spawn();
    if let Some((at, after, fault)) = fault {
        let kind = fault(daemon.pid());
        proxy.inject(InjectedFault { at, after, kind });
    }
    tokio::select! {
        () = rig.declare_and_wait() => {}
        () = keep_running(&rig, &proxy, &mut daemon) => {}
    }
    rig.assert_one_node();
    let folder = StepsRig::inode(&rig.folder());
    rig.change_port().await;
    tokio::select! {
        () = rig.wait_running() => {}
        () = keep_running(&rig, &proxy, &mut daemon) => {}
    }
    rig.assert_one_node();
    assert_eq!(
        StepsRig::inode(&rig.folder()),
        folder,
        "the folder was created again"
    );
    rig.delete().await;
    tokio::select! {
        () = rig.wait_removed() => {}
        () = keep_running(&rig, &proxy, &mut daemon) => {}
    }
    rig.assert_nothing_left().await;
    (
        proxy.statements(),
        fault.is_some() && proxy.fault_occurred(),
    )
}

async fn at_many_statements(after: bool, fault: Fault) {
    let (last, _) = lifecycle(None).await;
    assert!(last > 20, "only {last} statements in a lifecycle");
    let with_fault = |at| async move { lifecycle(Some((at, after, fault))).await.1 };
    let (occurred, lifecycles) = at_many_points(last, 8, with_fault).await;
    assert!(
        occurred * 2 > lifecycles,
        "only {occurred} faults in {lifecycles} lifecycles"
    );
}

#[tokio::test]
async fn steps_converge_if_killed_before_a_statement() {
    at_many_statements(false, FaultKind::Kill).await;
}

#[tokio::test]
async fn steps_converge_if_killed_after_a_statement() {
    at_many_statements(true, FaultKind::Kill).await;
}

#[tokio::test]
async fn steps_converge_if_disconnected_after_a_commit() {
    at_many_statements(true, DISCONNECT).await;
}

#[tokio::test]
async fn steps_converge_if_a_statement_is_rejected() {
    at_many_statements(false, REFUSE).await;
}
