//! What every driver promises. Each test is run once for each rig.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use kindler::clusters::Cluster;
use kindler::clusters::observation::{Condition, Observation};
use kindler::clusters::plan::Action;
use kindler::command::{MonotonicDeadline, unconditional_trust};
use kindler::core::steps::StepError;
use kindler::drivers::{Deadlines, Driver};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::rig::{PATIENCE, Rig, act, act_until, cluster, deadlines, free_port, transient};
use crate::kit::eventually;

/// Long enough for a busy machine, far too short for a grace, a deadline or a delay.
const QUICK: Duration = Duration::from_secs(8);

macro_rules! conformance {
    ($($module:ident: $rig:ty,)+) => {
        $(mod $module {
            use super::*;
            super::conformance::conformance! { @tests $rig:
                a_cluster_never_made_is_absent
                a_created_cluster_is_healthy
                creating_twice_is_creating_once
                a_deleted_cluster_is_absent
                deleting_nothing_succeeds
                an_update_is_applied
                a_stopped_cluster_does_not_answer_until_it_is_started
                what_was_killed_from_outside_is_unhealthy_until_it_is_created_again
                what_was_killed_from_outside_can_be_deleted
                a_cancelled_create_ends_at_once_and_leaves_no_process
                a_create_ends_with_the_trust_and_leaves_no_process
                a_dropped_create_leaves_no_process
                a_create_ends_at_its_deadline_and_leaves_no_process
                a_cluster_is_created_after_a_create_that_was_cut_short
                without_trust_nothing_is_done
                a_withdrawn_order_is_not_carried_out
                any_valid_name_will_do
                different_clusters_do_not_disturb_each_other
            }
        })+
    };
    (@tests $rig:ty: $($test:ident)+) => {
        $(#[tokio::test]
        async fn $test() {
            conformance::$test::<$rig>().await;
        })+
    };
}
pub(super) use conformance;

/// The driver must have done it.
async fn done(driver: &dyn Driver, action: Action, cluster: &Cluster) {
    let result = act(driver, action, cluster).await;
    result.unwrap_or_else(|error| panic!("{action:?} of {}: {error:?}", cluster.name));
}

async fn assert_healthy(driver: &dyn Driver, cluster: &Cluster) {
    let seen = driver.observe(cluster).await;
    assert_eq!(seen, Observation::HEALTHY, "{}", cluster.name);
}

async fn assert_absent(driver: &dyn Driver, cluster: &Cluster) {
    let seen = driver.observe(cluster).await;
    assert_eq!(seen, Observation::Absent, "{}", cluster.name);
}

pub async fn a_cluster_never_made_is_absent<R: Rig>() {
    let rig = R::new();
    assert_absent(&*rig.driver(), &cluster("dev")).await;
}

pub async fn a_created_cluster_is_healthy<R: Rig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    done(&*driver, Action::Create, &dev).await;
    assert_healthy(&*driver, &dev).await;
    assert_eq!(rig.applied_port(&dev), Some(dev.spec.http_port.get()));
}

pub async fn creating_twice_is_creating_once<R: Rig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    done(&*driver, Action::Create, &dev).await;
    done(&*driver, Action::Create, &dev).await;
    assert_healthy(&*driver, &dev).await;
    done(&*driver, Action::Delete, &dev).await;
    assert_absent(&*driver, &dev).await;
}

pub async fn a_deleted_cluster_is_absent<R: Rig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    done(&*driver, Action::Create, &dev).await;
    done(&*driver, Action::Delete, &dev).await;
    assert_absent(&*driver, &dev).await;
    assert_eq!(rig.applied_port(&dev), None);
}

pub async fn deleting_nothing_succeeds<R: Rig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    done(&*driver, Action::Delete, &dev).await;
    assert_absent(&*driver, &dev).await;
}

pub async fn an_update_is_applied<R: Rig>() {
    let rig = R::new();
    let (driver, mut dev) = (rig.driver(), cluster("dev"));
    done(&*driver, Action::Create, &dev).await;
    dev.spec.http_port = free_port();
    dev.generation += 1;
    done(&*driver, Action::Update, &dev).await;
    assert_healthy(&*driver, &dev).await;
    assert_eq!(rig.applied_port(&dev), Some(dev.spec.http_port.get()));
}

pub async fn a_stopped_cluster_does_not_answer_until_it_is_started<R: Rig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    done(&*driver, Action::Create, &dev).await;
    for _twice in 0..2 {
        done(&*driver, Action::Stop, &dev).await;
        let seen = driver.observe(&dev).await;
        let stopped = matches!(
            seen,
            Observation::Present(Condition::Stopped | Condition::Unhealthy(_))
        );
        assert!(stopped, "{seen}");
    }
    for _twice in 0..2 {
        done(&*driver, Action::Start, &dev).await;
        assert_healthy(&*driver, &dev).await;
    }
}

pub async fn what_was_killed_from_outside_is_unhealthy_until_it_is_created_again<R: Rig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    done(&*driver, Action::Create, &dev).await;
    rig.kill(&dev);
    let ill = |seen: &Observation| matches!(seen, Observation::Present(Condition::Unhealthy(_)));
    eventually(PATIENCE, "it is seen as unhealthy", async || {
        ill(&driver.observe(&dev).await)
    })
    .await;
    done(&*driver, Action::Create, &dev).await;
    assert_healthy(&*driver, &dev).await;
}

pub async fn what_was_killed_from_outside_can_be_deleted<R: Rig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    done(&*driver, Action::Create, &dev).await;
    rig.kill(&dev);
    done(&*driver, Action::Delete, &dev).await;
    assert_absent(&*driver, &dev).await;
}

/// Begins a create that hangs and ends it by `end`; gives back how it ended.
async fn cut_short<R: Rig>(
    rig: &R,
    end: impl FnOnce(&CancellationToken, &watch::Sender<MonotonicDeadline>),
) -> Result<(), StepError> {
    let (driver, dev) = (rig.hanging_driver(deadlines()), cluster("dev"));
    let cancel = CancellationToken::new();
    let (owner, trust) = watch::channel(MonotonicDeadline::never());
    let ending = async {
        until_it_hangs(rig).await;
        end(&cancel, &owner);
        Instant::now()
    };
    let acting = act_until(&*driver, Action::Create, &dev, trust, &cancel);
    let (result, ended) = tokio::join!(acting, ending);
    assert!(ended.elapsed() < QUICK, "{:?}", ended.elapsed());
    until_nothing_hangs(rig).await;
    result
}

async fn until_it_hangs<R: Rig>(rig: &R) {
    eventually(PATIENCE, "the create hangs", async || {
        !rig.token().sleepers().is_empty()
    })
    .await;
}

/// What was killed may take an instant to vanish.
async fn until_nothing_hangs<R: Rig>(rig: &R) {
    eventually(QUICK, "no process of the command is left", async || {
        rig.token().sleepers().is_empty()
    })
    .await;
}

pub async fn a_cancelled_create_ends_at_once_and_leaves_no_process<R: Rig>() {
    let rig = R::new();
    let result = cut_short(&rig, |cancel, _| cancel.cancel()).await;
    assert!(matches!(result, Err(StepError::Interrupted)), "{result:?}");
}

pub async fn a_create_ends_with_the_trust_and_leaves_no_process<R: Rig>() {
    let rig = R::new();
    let result = cut_short(&rig, |_, owner| {
        owner.send_replace(MonotonicDeadline::in_(Duration::ZERO));
    })
    .await;
    assert!(matches!(result, Err(StepError::Interrupted)), "{result:?}");
}

pub async fn a_dropped_create_leaves_no_process<R: Rig>() {
    let rig = R::new();
    let (driver, dev) = (rig.hanging_driver(deadlines()), cluster("dev"));
    tokio::select! {
        result = act(&*driver, Action::Create, &dev) => panic!("it did not hang: {result:?}"),
        () = until_it_hangs(&rig) => {}
    }
    until_nothing_hangs(&rig).await;
}

pub async fn a_create_ends_at_its_deadline_and_leaves_no_process<R: Rig>() {
    let rig = R::new();
    let driver = rig.hanging_driver(Deadlines {
        create: Duration::from_millis(700),
        ..deadlines()
    });
    let (summary, _) = transient(act(&*driver, Action::Create, &cluster("dev")).await);
    assert!(summary.contains("deadline"), "{summary}");
    until_nothing_hangs(&rig).await;
}

pub async fn a_cluster_is_created_after_a_create_that_was_cut_short<R: Rig>() {
    let rig = R::new();
    let _interrupted = cut_short(&rig, |cancel, _| cancel.cancel()).await;
    let (driver, dev) = (rig.driver(), cluster("dev"));
    let seen = driver.observe(&dev).await;
    assert!(!seen.is_healthy(), "{seen}");
    done(&*driver, Action::Create, &dev).await;
    assert_healthy(&*driver, &dev).await;
}

pub async fn without_trust_nothing_is_done<R: Rig>() {
    let rig = R::new();
    let driver = rig.driver();
    let (made, never_made) = (cluster("made"), cluster("never-made"));
    done(&*driver, Action::Create, &made).await;
    let (_owner, expired) = watch::channel(MonotonicDeadline::in_(Duration::ZERO));
    for action in Action::ALL {
        for row in [&made, &never_made] {
            let cancel = CancellationToken::new();
            let result = act_until(&*driver, action, row, expired.clone(), &cancel).await;
            assert!(
                matches!(result, Err(StepError::Interrupted)),
                "{action:?}: {result:?}"
            );
        }
    }
    assert_healthy(&*driver, &made).await;
    assert_absent(&*driver, &never_made).await;
}

pub async fn a_withdrawn_order_is_not_carried_out<R: Rig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), cluster("dev"));
    let cancel = CancellationToken::new();
    cancel.cancel();
    let acting = act_until(
        &*driver,
        Action::Create,
        &dev,
        unconditional_trust(),
        &cancel,
    );
    let result = acting.await;
    assert!(matches!(result, Err(StepError::Interrupted)), "{result:?}");
    assert_absent(&*driver, &dev).await;
}

pub async fn any_valid_name_will_do<R: Rig>() {
    let rig = R::new();
    let driver = rig.driver();
    let longest = "x".repeat(63);
    for name in [
        "0",
        "a--b",
        "null",
        "true",
        "stopped",
        "node-json",
        "n",
        &longest,
    ] {
        let row = cluster(name);
        done(&*driver, Action::Create, &row).await;
        assert_healthy(&*driver, &row).await;
        done(&*driver, Action::Delete, &row).await;
        assert_absent(&*driver, &row).await;
    }
}

pub async fn different_clusters_do_not_disturb_each_other<R: Rig>() {
    let rig = R::new();
    let driver = rig.driver();
    let rows: Vec<Cluster> = (0..8).map(|n| cluster(&format!("dev-{n}"))).collect();
    join_all(rows.iter().map(|row| done(&*driver, Action::Create, row))).await;
    join_all(rows.iter().map(|row| assert_healthy(&*driver, row))).await;
    let (gone, kept) = rows.split_at(3);
    join_all(gone.iter().map(|row| done(&*driver, Action::Delete, row))).await;
    join_all(gone.iter().map(|row| assert_absent(&*driver, row))).await;
    join_all(kept.iter().map(|row| assert_healthy(&*driver, row))).await;
}
