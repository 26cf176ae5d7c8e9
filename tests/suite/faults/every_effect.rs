//! At every effect in a cluster's lifecycle, one at a time: the observation or action fails
//! or panics, before or after its effect, or the command that was just started kills
//! the daemon. Every lifecycle must converge.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kindler::clusters::Cluster;
use kindler::clusters::observation::Observation;
use kindler::clusters::plan::{Action, Policy};
use kindler::clusters::reconcile::{ClusterReconciler, SafetyLimits, UnwrittenResults};
use kindler::command::{LogDir, Runner};
use kindler::core::controller::{Controller, ControllerSettings};
use kindler::core::database::Database as Url;
use kindler::core::lease::LeasePolicy;
use kindler::core::resource::ResourceReconciler;
use kindler::core::steps::StepError;
use kindler::core::wakeups::WakeupQueue;
use kindler::drivers::script::{ScriptDriver, ScriptSettings};
use kindler::drivers::{ActionRequest, Deadlines, Driver, Kubeconfig, KubeconfigError};
use kindler::metrics::Metrics;
use kindler::store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::every_statement::{STEPS, run_lifecycle};
use super::{at_many_points, converged, quick, rounds};
use crate::kit::{Database, Host, KINDLER, Sql, eventually, migrated};

/// What happens at an effect.
#[derive(Clone, Copy, Debug)]
enum EffectFault {
    Fails,
    Panics,
}

/// The script driver with a fault at one call.
struct FaultyDriver {
    driver: ScriptDriver,
    calls: AtomicUsize,
    at: usize,
    fault: EffectFault,
    /// The fault occurs after the effect.
    after: bool,
}

impl FaultyDriver {
    fn new(host: &Host, at: usize, fault: EffectFault, after: bool) -> Self {
        let mut settings = ScriptSettings::new(LogDir::new(host.state_dir().join("logs")));
        for (command, verb) in [
            (&mut settings.create, "create"),
            (&mut settings.delete, "delete"),
            (&mut settings.probe, "probe"),
            (&mut settings.exists, "exists"),
            (&mut settings.start, "start"),
            (&mut settings.stop, "stop"),
        ] {
            *command = Some(host.command(verb));
        }
        settings.runner = Runner {
            guard_program: KINDLER.into(),
            ..Runner::default()
        };
        settings.deadlines = Deadlines {
            grace: Duration::from_secs(2),
            ..Deadlines::default()
        };
        Self {
            driver: ScriptDriver::new(settings),
            calls: AtomicUsize::new(0),
            at,
            fault,
            after,
        }
    }

    /// Whether this call must fail; panics if it must panic. The call is counted before
    /// its effect, and only once.
    fn is_faulty(&self, call: usize) -> bool {
        let faulty = call == self.at;
        assert!(
            !(faulty && matches!(self.fault, EffectFault::Panics)),
            "call {call} panics on purpose"
        );
        faulty
    }

    fn count(&self) -> usize {
        self.calls.fetch_add(1, Ordering::SeqCst) + 1
    }
}

#[async_trait]
impl Driver for FaultyDriver {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn preflight(&self) -> Result<(), Vec<String>> {
        Ok(())
    }

    async fn observe(&self, cluster: &Cluster) -> Observation {
        let call = self.count();
        if !self.after && self.is_faulty(call) {
            return Observation::unknown("this observation fails on purpose");
        }
        let observation = self.driver.observe(cluster).await;
        if self.after && self.is_faulty(call) {
            return Observation::unknown("this observation was lost on purpose");
        }
        observation
    }

    async fn act(&self, action: Action, order: &ActionRequest<'_>) -> Result<(), StepError> {
        let failure = || StepError::Transient {
            summary: "this action fails on purpose".into(),
            detail: String::new(),
        };
        let call = self.count();
        if !self.after && self.is_faulty(call) {
            return Err(failure());
        }
        self.driver.act(action, order).await?;
        if self.after && self.is_faulty(call) {
            return Err(failure());
        }
        Ok(())
    }

    async fn kubeconfig(&self, cluster: &Cluster) -> Result<Kubeconfig, KubeconfigError> {
        self.driver.kubeconfig(cluster).await
    }
}

/// A controller with this driver in the test process.
fn controller(
    database: &Database,
    driver: Arc<FaultyDriver>,
) -> Controller<ResourceReconciler<ClusterReconciler>> {
    let mut policy = Policy::default();
    policy.backoff.initial = Duration::from_millis(100);
    policy.backoff.max = Duration::from_secs(1);
    policy.health.reprobe = Duration::from_millis(100);
    let metrics = Arc::new(Metrics::new());
    let (_newer, standby) = watch::channel(None);
    let reconciler = ClusterReconciler {
        store: Store::new(&Url::parse(&database.url()).unwrap(), 6, "faulty"),
        driver,
        metrics: metrics.clone(),
        limits: SafetyLimits::new(&policy.health).into(),
        unwritten: UnwrittenResults::default(),
        policy,
        standby,
    }
    .owned_by(
        &format!("faulty-{}", fastrand::u64(..)),
        LeasePolicy {
            ttl: Duration::from_secs(2),
        },
    );
    let settings = ControllerSettings {
        resync: Duration::from_millis(200),
        ..ControllerSettings::default()
    };
    Controller::new(
        Arc::new(reconciler),
        settings,
        WakeupQueue::default(),
        metrics.controller("cluster"),
    )
}

/// One lifecycle with a fault at this call; returns the number of calls.
async fn with_fault(at: usize, fault: EffectFault, after: bool) -> usize {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let driver = Arc::new(FaultyDriver::new(&host, at, fault, after));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(controller(&database, driver.clone()).run(shutdown.clone()));
    for (change, done) in STEPS {
        sql.run(change).await;
        let awaited = format!("{change} with call {at} that {fault:?}, after: {after}");
        eventually(Duration::from_secs(60), &awaited, || async {
            sql.number(done).await == 0
        })
        .await;
    }
    converged(&sql, &host).await;
    shutdown.cancel();
    running.await.unwrap();
    driver.calls.load(Ordering::SeqCst)
}

async fn at_many_effects(fault: EffectFault, after: bool) {
    let last = with_fault(0, fault, after).await;
    assert!(last > 8, "only {last} effects in a lifecycle");
    at_many_points(last, 6, |at| async move {
        with_fault(at, fault, after).await >= at
    })
    .await;
}

#[tokio::test]
async fn converges_if_a_call_fails_before_its_effect() {
    at_many_effects(EffectFault::Fails, false).await;
}

#[tokio::test]
async fn converges_if_a_call_fails_after_its_effect() {
    at_many_effects(EffectFault::Fails, true).await;
}

#[tokio::test]
async fn converges_if_a_call_panics_before_its_effect() {
    at_many_effects(EffectFault::Panics, false).await;
}

#[tokio::test]
async fn converges_if_a_call_panics_after_its_effect() {
    at_many_effects(EffectFault::Panics, true).await;
}

/// The `nth` start of this command kills the daemon before the command has an effect.
async fn with_kill(verb: &'static str, nth: usize) -> bool {
    let (database, host) = (migrated().await, Host::new());
    host.control(
        verb,
        &format!(
            "echo >> \"$here/started-{verb}\"
             if [ \"$(wc -l < \"$here/started-{verb}\")\" -ge {nth} ] && mkdir \"$here/killed\" 2>/dev/null
             then kill -9 \"$(cat \"$here/daemon\")\"; fi"
        ),
    );
    let sql = database.connect().await;
    let daemon = quick(&database.url(), &host).spawn();
    fs::write(host.path().join("daemon"), daemon.pid().to_string()).unwrap();
    run_lifecycle(&sql, &host, &database.url(), daemon).await;
    host.path().join("killed").exists()
}

#[tokio::test]
async fn converges_if_a_starting_command_kills_the_daemon() {
    let verbs = ["create", "probe", "exists", "stop", "start", "delete"];
    let mut lifecycles = Vec::new();
    for (verb, times) in verbs
        .into_iter()
        .zip([rounds(1, 3), rounds(2, 6), 1, 1, 1, 1])
    {
        for nth in 1..=times {
            lifecycles.push((verb, nth));
        }
    }
    for few in lifecycles.chunks(4) {
        let few: Vec<_> = few
            .iter()
            .map(|(verb, nth)| (*verb, tokio::spawn(with_kill(verb, *nth))))
            .collect();
        for (verb, lifecycle) in few {
            assert!(
                lifecycle.await.expect("it converges"),
                "no {verb} was started"
            );
        }
    }
}
