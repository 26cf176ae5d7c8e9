//! The contract of a driver. Each test runs once for each rig.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use kindler::clusters::observation::{Observation, PresentState};
use kindler::clusters::plan::Action;
use kindler::clusters::{Actual, Cluster};
use kindler::command::{MonotonicDeadline, unconditional_trust};
use kindler::core::steps::StepError;
use kindler::drivers::{Deadlines, Driver};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::rig::{
    DRIVER_TIMEOUT, DriverRig, act, act_until, deadlines, free_port, permanent, transient,
};
use crate::kit::eventually;

/// Long enough for a busy machine, far shorter than a grace, a deadline or a delay.
const QUICK: Duration = Duration::from_secs(8);

macro_rules! conformance {
    ($($(#[$attribute:meta])* $module:ident: $rig:ty,)+) => {
        $(mod $module {
            use super::*;
            super::conformance::conformance! { @tests [$(#[$attribute])*] $rig:
                a_cluster_never_created_is_absent
                a_created_cluster_is_healthy
                creating_twice_has_no_further_effect
                a_row_that_made_nothing_finds_the_cluster_of_another
                a_deleted_cluster_is_absent
                deleting_an_absent_cluster_succeeds
                an_update_is_applied_or_rejected
                a_stopped_cluster_does_not_answer_until_it_is_started
                a_killed_cluster_is_unhealthy_until_it_is_recreated
                a_killed_cluster_can_be_deleted
                a_cancelled_create_ends_at_once_and_leaves_no_process
                a_create_ends_with_the_trust_and_leaves_no_process
                a_dropped_create_leaves_no_process
                a_create_ends_at_its_deadline_and_leaves_no_process
                a_create_succeeds_after_a_cancelled_create
                without_trust_no_action_runs
                a_cancelled_order_is_not_carried_out
                any_valid_name_works
                different_clusters_do_not_interfere
            }
        })+
    };
    (@tests $attributes:tt $rig:ty: $($test:ident)+) => {
        $(super::conformance::conformance! { @test $attributes $rig: $test })+
    };
    (@test [$(#[$attribute:meta])*] $rig:ty: $test:ident) => {
        #[tokio::test]
        $(#[$attribute])*
        async fn $test() {
            conformance::$test::<$rig>().await;
        }
    };
}
pub(super) use conformance;

/// Runs an action that must succeed.
async fn expect_done(driver: &dyn Driver, action: Action, cluster: &Cluster) {
    let result = act(driver, action, cluster).await;
    result.unwrap_or_else(|error| panic!("{action:?} of {}: {error:?}", cluster.name));
}

async fn assert_healthy(driver: &dyn Driver, cluster: &Cluster) {
    let observed = driver.observe(cluster).await;
    assert_eq!(observed, Observation::HEALTHY, "{}", cluster.name);
}

async fn assert_absent(driver: &dyn Driver, cluster: &Cluster) {
    let observed = driver.observe(cluster).await;
    assert_eq!(observed, Observation::Absent, "{}", cluster.name);
}

pub async fn a_cluster_never_created_is_absent<R: DriverRig>() {
    let rig = R::new();
    assert_absent(&*rig.driver(), &rig.cluster("dev")).await;
}

pub async fn a_created_cluster_is_healthy<R: DriverRig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), rig.cluster("dev"));
    expect_done(&*driver, Action::Create, &dev).await;
    assert_healthy(&*driver, &dev).await;
    assert_eq!(rig.applied_port(&dev), Some(dev.spec.http_port.get()));
}

pub async fn creating_twice_has_no_further_effect<R: DriverRig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), rig.cluster("dev"));
    expect_done(&*driver, Action::Create, &dev).await;
    expect_done(&*driver, Action::Create, &dev).await;
    assert_healthy(&*driver, &dev).await;
    expect_done(&*driver, Action::Delete, &dev).await;
    assert_absent(&*driver, &dev).await;
}

/// A sandbox cluster is made by Kindler alone: a later row of its name keeps it.
pub async fn a_row_that_made_nothing_finds_the_cluster_of_another<R: DriverRig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), rig.cluster("dev"));
    let another = Cluster {
        uid: uuid::Uuid::from_u128(2),
        actual: Actual::Unknown,
        ..dev.clone()
    };
    assert_absent(&*driver, &another).await;
    expect_done(&*driver, Action::Create, &dev).await;
    let observed = driver.observe(&another).await;
    if R::KEEPS_CLUSTERS_OF_ANOTHER {
        assert_eq!(observed, Observation::HEALTHY);
    } else {
        let Observation::Present(PresentState::Foreign(why)) = observed else {
            panic!("{observed}")
        };
        assert!(why.contains("kindler adopt"), "{why}");
    }
    let adopted = Cluster {
        adopt_requested_at: Some(jiff::Timestamp::now()),
        ..another
    };
    assert_healthy(&*driver, &adopted).await;
}

pub async fn a_deleted_cluster_is_absent<R: DriverRig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), rig.cluster("dev"));
    expect_done(&*driver, Action::Create, &dev).await;
    expect_done(&*driver, Action::Delete, &dev).await;
    assert_absent(&*driver, &dev).await;
    assert_eq!(rig.applied_port(&dev), None);
}

pub async fn deleting_an_absent_cluster_succeeds<R: DriverRig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), rig.cluster("dev"));
    expect_done(&*driver, Action::Delete, &dev).await;
    assert_absent(&*driver, &dev).await;
}

/// What is reported as applied was applied; what cannot be changed in place changes nothing.
pub async fn an_update_is_applied_or_rejected<R: DriverRig>() {
    let rig = R::new();
    let (driver, mut dev) = (rig.driver(), rig.cluster("dev"));
    expect_done(&*driver, Action::Create, &dev).await;
    let before = dev.spec.http_port;
    dev.spec.http_port = free_port();
    dev.generation += 1;
    let updated = act(&*driver, Action::Update, &dev).await;
    if R::CHANGES_PORTS {
        updated.unwrap();
    } else {
        let (summary, _) = permanent(updated);
        assert!(summary.contains("http_port"), "{summary}");
        dev.spec.http_port = before;
    }
    assert_healthy(&*driver, &dev).await;
    assert_eq!(rig.applied_port(&dev), Some(dev.spec.http_port.get()));
}

pub async fn a_stopped_cluster_does_not_answer_until_it_is_started<R: DriverRig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), rig.cluster("dev"));
    expect_done(&*driver, Action::Create, &dev).await;
    for _twice in 0..2 {
        expect_done(&*driver, Action::Stop, &dev).await;
        let observed = driver.observe(&dev).await;
        let stopped = matches!(
            observed,
            Observation::Present(PresentState::Stopped | PresentState::Unhealthy(_))
        );
        assert!(stopped, "{observed}");
    }
    for _twice in 0..2 {
        expect_done(&*driver, Action::Start, &dev).await;
        assert_healthy(&*driver, &dev).await;
    }
}

pub async fn a_killed_cluster_is_unhealthy_until_it_is_recreated<R: DriverRig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), rig.cluster("dev"));
    expect_done(&*driver, Action::Create, &dev).await;
    rig.kill(&dev);
    let unhealthy = |observed: &Observation| {
        matches!(observed, Observation::Present(PresentState::Unhealthy(_)))
    };
    eventually(DRIVER_TIMEOUT, "an unhealthy cluster", async || {
        unhealthy(&driver.observe(&dev).await)
    })
    .await;
    expect_done(&*driver, Action::Create, &dev).await;
    assert_healthy(&*driver, &dev).await;
}

pub async fn a_killed_cluster_can_be_deleted<R: DriverRig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), rig.cluster("dev"));
    expect_done(&*driver, Action::Create, &dev).await;
    rig.kill(&dev);
    expect_done(&*driver, Action::Delete, &dev).await;
    assert_absent(&*driver, &dev).await;
}

/// Begins a create that hangs and ends it with `end`; returns its result.
async fn cancelled_create<R: DriverRig>(
    rig: &R,
    end: impl FnOnce(&CancellationToken, &watch::Sender<MonotonicDeadline>),
) -> Result<(), StepError> {
    let (driver, dev) = (rig.hanging_driver(deadlines()), rig.cluster("dev"));
    let cancel = CancellationToken::new();
    let (owner, trust) = watch::channel(MonotonicDeadline::never());
    let ending = async {
        wait_until_it_hangs(rig).await;
        end(&cancel, &owner);
        Instant::now()
    };
    let acting = act_until(&*driver, Action::Create, &dev, trust, &cancel);
    let (result, ended) = tokio::join!(acting, ending);
    assert!(ended.elapsed() < QUICK, "{:?}", ended.elapsed());
    wait_until_nothing_hangs(rig).await;
    result
}

async fn wait_until_it_hangs<R: DriverRig>(rig: &R) {
    eventually(DRIVER_TIMEOUT, "the hanging create", async || {
        !rig.token().sleepers().is_empty()
    })
    .await;
}

/// A killed process may take a moment to vanish.
async fn wait_until_nothing_hangs<R: DriverRig>(rig: &R) {
    eventually(
        QUICK,
        "the end of every process of the command",
        async || rig.token().sleepers().is_empty(),
    )
    .await;
}

pub async fn a_cancelled_create_ends_at_once_and_leaves_no_process<R: DriverRig>() {
    let rig = R::new();
    let result = cancelled_create(&rig, |cancel, _| cancel.cancel()).await;
    assert!(matches!(result, Err(StepError::Interrupted)), "{result:?}");
}

pub async fn a_create_ends_with_the_trust_and_leaves_no_process<R: DriverRig>() {
    let rig = R::new();
    let result = cancelled_create(&rig, |_, owner| {
        owner.send_replace(MonotonicDeadline::in_(Duration::ZERO));
    })
    .await;
    assert!(matches!(result, Err(StepError::Interrupted)), "{result:?}");
}

pub async fn a_dropped_create_leaves_no_process<R: DriverRig>() {
    let rig = R::new();
    let (driver, dev) = (rig.hanging_driver(deadlines()), rig.cluster("dev"));
    tokio::select! {
        result = act(&*driver, Action::Create, &dev) => panic!("it did not hang: {result:?}"),
        () = wait_until_it_hangs(&rig) => {}
    }
    wait_until_nothing_hangs(&rig).await;
}

pub async fn a_create_ends_at_its_deadline_and_leaves_no_process<R: DriverRig>() {
    let rig = R::new();
    let driver = rig.hanging_driver(Deadlines {
        create: Duration::from_millis(700),
        ..deadlines()
    });
    let (summary, _) = transient(act(&*driver, Action::Create, &rig.cluster("dev")).await);
    assert!(
        summary.contains("KINDLER_CREATE_DEADLINE=700ms"),
        "{summary}"
    );
    wait_until_nothing_hangs(&rig).await;
}

pub async fn a_create_succeeds_after_a_cancelled_create<R: DriverRig>() {
    let rig = R::new();
    let _interrupted = cancelled_create(&rig, |cancel, _| cancel.cancel()).await;
    let (driver, dev) = (rig.driver(), rig.cluster("dev"));
    let observed = driver.observe(&dev).await;
    assert!(!observed.is_healthy(), "{observed}");
    expect_done(&*driver, Action::Create, &dev).await;
    assert_healthy(&*driver, &dev).await;
}

pub async fn without_trust_no_action_runs<R: DriverRig>() {
    let rig = R::new();
    let driver = rig.driver();
    let (made, never_made) = (rig.cluster("made"), rig.cluster("never-made"));
    expect_done(&*driver, Action::Create, &made).await;
    let (_owner, expired) = watch::channel(MonotonicDeadline::in_(Duration::ZERO));
    for &action in Action::ALL {
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

pub async fn a_cancelled_order_is_not_carried_out<R: DriverRig>() {
    let rig = R::new();
    let (driver, dev) = (rig.driver(), rig.cluster("dev"));
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

pub async fn any_valid_name_works<R: DriverRig>() {
    let rig = R::new();
    let driver = rig.driver();
    let longest = "x".repeat(R::LONGEST_NAME);
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
        let row = rig.cluster_named(name);
        expect_done(&*driver, Action::Create, &row).await;
        assert_healthy(&*driver, &row).await;
        expect_done(&*driver, Action::Delete, &row).await;
        assert_absent(&*driver, &row).await;
    }
}

pub async fn different_clusters_do_not_interfere<R: DriverRig>() {
    let rig = R::new();
    let driver = rig.driver();
    let rows: Vec<Cluster> = (0..8).map(|n| rig.cluster(&format!("dev-{n}"))).collect();
    join_all(
        rows.iter()
            .map(|row| expect_done(&*driver, Action::Create, row)),
    )
    .await;
    join_all(rows.iter().map(|row| assert_healthy(&*driver, row))).await;
    let (gone, kept) = rows.split_at(3);
    join_all(
        gone.iter()
            .map(|row| expect_done(&*driver, Action::Delete, row)),
    )
    .await;
    join_all(gone.iter().map(|row| assert_absent(&*driver, row))).await;
    join_all(kept.iter().map(|row| assert_healthy(&*driver, row))).await;
}
