//! At every effect on the host of a cluster's life, one at a time: the look or
//! the action fails or panics, before or after it was done, or the command that
//! was just started kills the daemon. All must converge.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kindler::clusters::Cluster;
use kindler::clusters::observation::Observation;
use kindler::clusters::plan::{Action, Policy};
use kindler::clusters::reconcile::{ClusterReconciler, SafetyLimits};
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

use super::every_statement::{STEPS, live};
use super::{converged, migrated, number, quick, rounds, run};
use crate::kit::{Database, Host, KINDLER, eventually};

/// What befalls an effect.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Fails,
    Panics,
}

/// The script driver, in which one call goes wrong.
struct Faulty {
    driver: ScriptDriver,
    calls: AtomicUsize,
    at: usize,
    fault: Fault,
    /// The effect is done when it goes wrong.
    after: bool,
}

impl Faulty {
    fn new(host: &Host, at: usize, fault: Fault, after: bool) -> Self {
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

    /// Whether this call is to fail; panics if it is to panic. A call that is
    /// hit after its effect is counted before it, and only once.
    fn strikes(&self, call: usize) -> bool {
        let struck = call == self.at;
        assert!(
            !(struck && matches!(self.fault, Fault::Panics)),
            "call {call} panics, as asked"
        );
        struck
    }

    fn count(&self) -> usize {
        self.calls.fetch_add(1, Ordering::SeqCst) + 1
    }
}

#[async_trait]
impl Driver for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn preflight(&self) -> Result<(), Vec<String>> {
        Ok(())
    }

    async fn observe(&self, cluster: &Cluster) -> Observation {
        let call = self.count();
        if !self.after && self.strikes(call) {
            return Observation::unknown("this look fails, as asked");
        }
        let seen = self.driver.observe(cluster).await;
        if self.after && self.strikes(call) {
            return Observation::unknown("this look was lost, as asked");
        }
        seen
    }

    async fn act(&self, action: Action, order: &ActionRequest<'_>) -> Result<(), StepError> {
        let failure = || StepError::Transient {
            summary: "this action fails, as asked".into(),
            detail: String::new(),
        };
        let call = self.count();
        if !self.after && self.strikes(call) {
            return Err(failure());
        }
        self.driver.act(action, order).await?;
        if self.after && self.strikes(call) {
            return Err(failure());
        }
        Ok(())
    }

    async fn kubeconfig(&self, cluster: &Cluster) -> Result<Kubeconfig, KubeconfigError> {
        self.driver.kubeconfig(cluster).await
    }
}

/// The controller of this process on a driver; ends when told.
fn controller(
    database: &Database,
    driver: Arc<Faulty>,
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
        limits: SafetyLimits::new(&policy.health),
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

/// One life in which one call goes wrong; how many calls it took.
async fn with_fault(at: usize, fault: Fault, after: bool) -> usize {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let driver = Arc::new(Faulty::new(&host, at, fault, after));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(controller(&database, driver.clone()).run(shutdown.clone()));
    for (change, done) in STEPS {
        run(&sql, change).await;
        let awaited = format!("{change} with call {at} that {fault:?}, after: {after}");
        eventually(Duration::from_secs(60), &awaited, || async {
            number(&sql, done).await == 0
        })
        .await;
    }
    converged(&sql, &host).await;
    shutdown.cancel();
    running.await.unwrap();
    driver.calls.load(Ordering::SeqCst)
}

async fn at_many_effects(fault: Fault, after: bool) {
    let last = with_fault(0, fault, after).await;
    assert!(last > 8, "a life of {last} effects is none");
    let step = last.div_ceil(rounds(6, last));
    let numbers: Vec<usize> = (1..=last).step_by(step).collect();
    for few in numbers.chunks(4) {
        let lives: Vec<_> = few
            .iter()
            .map(|at| tokio::spawn(with_fault(*at, fault, after)))
            .collect();
        for life in lives {
            life.await.expect("it converges");
        }
    }
}

#[tokio::test]
async fn an_effect_fails_before_it_is_done() {
    at_many_effects(Fault::Fails, false).await;
}

#[tokio::test]
async fn an_effect_is_done_and_said_to_have_failed() {
    at_many_effects(Fault::Fails, true).await;
}

#[tokio::test]
async fn a_panic_comes_before_an_effect() {
    at_many_effects(Fault::Panics, false).await;
}

#[tokio::test]
async fn a_panic_comes_after_an_effect() {
    at_many_effects(Fault::Panics, true).await;
}

/// The `nth` start of this command kills the daemon, before the command works.
async fn killed_at(verb: &'static str, nth: usize) -> bool {
    let (database, host) = (migrated().await, Host::new());
    host.control(
        verb,
        &format!(
            "echo >> \"$here/started-{verb}\"
             if [ \"$(wc -l < \"$here/started-{verb}\")\" -ge {nth} ] && mkdir \"$here/sprung\" 2>/dev/null
             then kill -9 \"$(cat \"$here/daemon\")\"; fi"
        ),
    );
    let sql = database.connect().await;
    let daemon = quick(&database.url(), &host).spawn();
    fs::write(host.path().join("daemon"), daemon.pid().to_string()).unwrap();
    live(&sql, &host, &database.url(), daemon).await;
    host.path().join("sprung").exists()
}

#[tokio::test]
async fn a_command_kills_the_daemon_as_it_starts() {
    let verbs = ["create", "probe", "exists", "stop", "start", "delete"];
    let mut lives = Vec::new();
    for (verb, times) in verbs
        .into_iter()
        .zip([rounds(1, 3), rounds(2, 6), 1, 1, 1, 1])
    {
        for nth in 1..=times {
            lives.push((verb, nth));
        }
    }
    for few in lives.chunks(4) {
        let few: Vec<_> = few
            .iter()
            .map(|(verb, nth)| (*verb, tokio::spawn(killed_at(verb, *nth))))
            .collect();
        for (verb, life) in few {
            assert!(life.await.expect("it converges"), "no {verb} was run");
        }
    }
}
