//! The generic controller: event-driven and level-triggered, one worker for each key,
//! bounded queues, orderly shutdown.

mod example;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kindler::core::controller::{
    ClaimOutcome, Controller, ControllerSettings, Finished, Reconciler, Signals,
};
use kindler::core::metrics::ControllerMetrics;
use kindler::core::queue::Key;
use kindler::core::wakeups::WakeupQueue;
use kindler::metrics::Metrics;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::kit::eventually;

/// A table in memory, and a record of its reconciles.
#[derive(Default)]
struct TableStub {
    due: BTreeSet<String>,
    running: BTreeMap<String, usize>,
    most_at_once: usize,
    reconciles: Vec<String>,
    stopped: Vec<String>,
}

/// The error of every key during an outage.
#[derive(Debug, thiserror::Error)]
#[error("unreachable")]
struct Unreachable;

struct ReconcilerStub {
    table: Mutex<TableStub>,
    /// Due keys cannot be read any more.
    down: AtomicBool,
    /// The reconcile of a key that begins with "slow" needs one permit to end. One of a key
    /// that ends with "long" does long work.
    gate: Semaphore,
}

impl ReconcilerStub {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::default(),
            down: AtomicBool::default(),
            gate: Semaphore::new(0),
        })
    }

    fn reconciles_of(&self, key: &str) -> usize {
        self.table
            .lock()
            .unwrap()
            .reconciles
            .iter()
            .filter(|reconciled| *reconciled == key)
            .count()
    }
}

#[async_trait]
impl Reconciler for ReconcilerStub {
    type ClaimedKey = Key;
    type Error = Unreachable;

    fn name(&self) -> &'static str {
        "stub"
    }

    fn is_outage(&self, _: &Unreachable) -> bool {
        true
    }

    async fn due(&self, _: Duration, limit: usize) -> Result<Vec<(String, Duration)>, Unreachable> {
        if self.down.load(Relaxed) {
            return Err(Unreachable);
        }
        let table = self.table.lock().unwrap();
        Ok(table
            .due
            .iter()
            .take(limit)
            .map(|key| (key.clone(), Duration::ZERO))
            .collect())
    }

    async fn claim(&self, keys: &[Key]) -> Result<Vec<(Key, ClaimOutcome<Key>)>, Unreachable> {
        let won = |key: &Key| (key.clone(), ClaimOutcome::Won(key.clone()));
        Ok(keys.iter().map(won).collect())
    }

    async fn reconcile(&self, key: Key, signals: &Signals) -> Result<Finished, Unreachable> {
        let key = &*key;
        {
            let mut table = self.table.lock().unwrap();
            *table.running.entry(key.to_owned()).or_default() += 1;
            assert_eq!(table.running[key], 1, "{key} runs twice at once");
            table.most_at_once = table.most_at_once.max(table.running.values().sum());
            table.reconciles.push(key.to_owned());
        }
        if key.starts_with("panic") {
            // It is tried again, perhaps before the test has ended.
            self.table.lock().unwrap().running.remove(key);
            panic!("panics on purpose");
        }
        if key.ends_with("long") && !signals.begin_long_work() {
            let mut table = self.table.lock().unwrap();
            table.running.remove(key);
            return Ok(Finished::NoPlace);
        }
        if key.starts_with("slow") {
            tokio::select! {
                permit = self.gate.acquire() => permit.unwrap().forget(),
                () = signals.stopped() => self.table.lock().unwrap().stopped.push(key.to_owned()),
            }
        }
        if key.starts_with("lends") {
            let permit = signals.without_worker(self.gate.acquire()).await;
            permit.unwrap().forget();
        }
        let mut table = self.table.lock().unwrap();
        table.running.remove(key);
        table.due.remove(key);
        if key.starts_with("outage") {
            self.down.fetch_or(key.ends_with("lasts"), Relaxed);
            return Err(Unreachable);
        }
        Ok(match key {
            _ if key.starts_with("fail") => Finished::Failed(Duration::from_millis(20)),
            _ if key.starts_with("check") => Finished::Settled(Some(Duration::from_secs(3600))),
            _ => Finished::Settled(None),
        })
    }
}

struct RunningController {
    stub: Arc<ReconcilerStub>,
    wakeups: WakeupQueue,
    metrics: ControllerMetrics,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn run(stub: Arc<ReconcilerStub>, settings: ControllerSettings) -> RunningController {
    let (wakeups, shutdown) = (WakeupQueue::default(), CancellationToken::new());
    let metrics = Metrics::new().controller("stub");
    let controller = Controller::new(stub.clone(), settings, wakeups.clone(), metrics.clone());
    let task = tokio::spawn(controller.run(shutdown.clone()));
    RunningController {
        stub,
        wakeups,
        metrics,
        shutdown,
        task,
    }
}

/// No periodic pass runs during a test.
fn without_passes() -> ControllerSettings {
    ControllerSettings {
        resync: Duration::from_secs(3600),
        ..ControllerSettings::default()
    }
}

async fn wait_until<F: AsyncFn() -> bool>(awaited: &str, condition: F) {
    eventually(Duration::from_secs(10), awaited, || condition()).await;
}

#[tokio::test]
async fn long_work_leaves_a_worker_for_the_others() {
    let settings = ControllerSettings {
        concurrency: 2,
        reserved: 1,
        ..without_passes()
    };
    let running = run(ReconcilerStub::new(), settings);
    let names: Vec<String> = (0..6).map(|n| format!("slow {n} long")).collect();
    for name in &names {
        running.wakeups.wake(name);
    }
    let counts = |stub: &ReconcilerStub| -> Vec<usize> {
        names.iter().map(|name| stub.reconciles_of(name)).collect()
    };
    let stub = &running.stub;
    wait_until("two that run and four without a place", || async {
        counts(stub).iter().all(|count| *count == 1)
            && stub.table.lock().unwrap().running.len() == 2
    })
    .await;
    for n in 0..20 {
        let key = format!("quick {n}");
        running.wakeups.wake(&key);
        wait_until("a quick key", || async { stub.reconciles_of(&key) == 1 }).await;
    }
    assert_eq!(counts(stub), [1; 6], "nothing is tried without a place");
    stub.gate.add_permits(6);
    wait_until("the end of all", || async {
        stub.table.lock().unwrap().running.is_empty() && counts(stub).iter().sum::<usize>() == 10
    })
    .await;
    assert_eq!(counts(stub).iter().filter(|count| **count == 2).count(), 4);
    running.shutdown.cancel();
    running.task.await.unwrap();
}

#[tokio::test]
async fn a_wakeup_starts_its_key_and_a_pass_finds_the_others() {
    let stub = ReconcilerStub::new();
    stub.table.lock().unwrap().due.insert("lost".into());
    let running = run(
        stub,
        ControllerSettings {
            resync: Duration::from_millis(50),
            ..without_passes()
        },
    );
    running.wakeups.wake("woken");
    for key in ["woken", "lost"] {
        wait_until(key, async || running.stub.reconciles_of(key) == 1).await;
    }
    running
        .stub
        .table
        .lock()
        .unwrap()
        .due
        .insert("later".into());
    wait_until("a key that became due between passes", async || {
        running.stub.reconciles_of("later") == 1
    })
    .await;
}

#[tokio::test]
async fn wakeups_during_a_reconcile_cause_exactly_one_more() {
    let running = run(ReconcilerStub::new(), without_passes());
    running.wakeups.wake("slow");
    wait_until("the first reconcile", async || {
        running.stub.reconciles_of("slow") == 1
    })
    .await;
    for _ in 0..5 {
        running.wakeups.wake("slow");
        running.wakeups.wake("other");
    }
    wait_until("another key", async || {
        running.stub.reconciles_of("other") >= 1
    })
    .await;
    running.stub.gate.add_permits(10);
    wait_until("the second reconcile", async || {
        running.stub.reconciles_of("slow") == 2
    })
    .await;
    running.shutdown.cancel();
    running.task.await.unwrap();
    assert_eq!(running.stub.reconciles_of("slow"), 2);
}

#[tokio::test]
async fn the_limit_holds_and_a_burst_loses_no_key() {
    let stub = ReconcilerStub::new();
    let keys: Vec<String> = (0..10_000).map(|n| format!("k{n}")).collect();
    stub.table.lock().unwrap().due.extend(keys.iter().cloned());
    let settings = ControllerSettings {
        capacity: 100,
        concurrency: 4,
        ..without_passes()
    };
    let running = run(stub, settings);
    for key in &keys {
        running.wakeups.wake(key);
    }
    wait_until("every key", async || {
        running.stub.table.lock().unwrap().due.is_empty()
    })
    .await;
    assert!(running.stub.table.lock().unwrap().most_at_once <= 4);
}

/// It goes on when a worker is free.
#[tokio::test]
async fn a_lent_worker_runs_other_keys() {
    let settings = ControllerSettings {
        concurrency: 1,
        ..without_passes()
    };
    let running = run(ReconcilerStub::new(), settings);
    let stub = &running.stub;
    let runs = |key: &str| stub.table.lock().unwrap().running.contains_key(key);
    for key in ["lends", "other", "slow"] {
        running.wakeups.wake(key);
        wait_until(key, async || stub.reconciles_of(key) == 1).await;
    }
    assert!(runs("lends") && !runs("other") && runs("slow"));
    // The first permit is for the first one that waited, the next one for the other.
    stub.gate.add_permits(1);
    running.wakeups.wake("waits");
    wait_until("the key to be queued", async || {
        running.metrics.depth.get() == 1
    })
    .await;
    assert!(runs("lends"), "it runs on without a worker");
    assert_eq!(stub.reconciles_of("waits"), 0);
    stub.gate.add_permits(1);
    wait_until("the return of the worker", async || !runs("lends")).await;
    wait_until("the next key", async || stub.reconciles_of("waits") == 1).await;
}

#[tokio::test]
async fn distant_due_times_do_not_fill_the_queue() {
    let stub = ReconcilerStub::new();
    let keys = |of: &str| {
        (0..50)
            .map(move |n| format!("{of}-{n}"))
            .collect::<Vec<_>>()
    };
    stub.table.lock().unwrap().due.extend(keys("check"));
    let settings = ControllerSettings {
        capacity: 10,
        resync: Duration::from_millis(200),
        ..without_passes()
    };
    let running = run(stub, settings);
    wait_until("every check", async || {
        running.stub.table.lock().unwrap().due.is_empty()
    })
    .await;
    // All of them are due in an hour, which must not fill the queue.
    running.stub.table.lock().unwrap().due.extend(keys("new"));
    wait_until("every key that is due now", async || {
        running.stub.table.lock().unwrap().due.is_empty()
    })
    .await;
    assert_eq!(running.stub.reconciles_of("check-0"), 1);
}

#[tokio::test]
async fn a_panic_and_failures_do_not_delay_others() {
    let stub = ReconcilerStub::new();
    stub.table
        .lock()
        .unwrap()
        .due
        .extend((0..500).map(|n| format!("fail{n}")));
    let settings = ControllerSettings {
        resync: Duration::from_millis(200),
        ..without_passes()
    };
    let running = run(stub, settings);
    running.wakeups.wake("panic");
    running.wakeups.wake("good");
    wait_until("the good key", async || {
        running.stub.reconciles_of("good") == 1
    })
    .await;
    wait_until("a retry of a failing key", async || {
        running.stub.reconciles_of("fail0") >= 2
    })
    .await;
    assert!(!running.task.is_finished());
}

#[tokio::test]
async fn shutdown_waits_then_stops_the_work_then_ends() {
    let settings = ControllerSettings {
        finish_within: Duration::from_millis(50),
        stop_within: Duration::from_secs(10),
        ..without_passes()
    };
    let running = run(ReconcilerStub::new(), settings);
    running.wakeups.wake("slow");
    wait_until("the first key", async || {
        running.stub.reconciles_of("slow") == 1
    })
    .await;
    running.wakeups.wake("slow2");
    wait_until("the second key", async || {
        running.stub.reconciles_of("slow2") == 1
    })
    .await;
    running.shutdown.cancel();
    running.wakeups.wake("too late");
    running.task.await.unwrap();
    let mut stopped = running.stub.table.lock().unwrap().stopped.clone();
    stopped.sort();
    assert_eq!(stopped, ["slow", "slow2"]);
    assert_eq!(running.stub.reconciles_of("too late"), 0);
}

/// One complete pass over these keys, and the stub that records it.
fn once(
    keys: &[&str],
    settings: ControllerSettings,
) -> (Arc<ReconcilerStub>, JoinHandle<Result<(), Unreachable>>) {
    let stub = ReconcilerStub::new();
    let due = keys.iter().map(ToString::to_string);
    stub.table.lock().unwrap().due.extend(due);
    let metrics = Metrics::new().controller("stub");
    let controller = Controller::new(stub.clone(), settings, WakeupQueue::default(), metrics);
    let pass = tokio::spawn(controller.run_once(CancellationToken::new()));
    (stub, pass)
}

#[tokio::test]
async fn once_reconciles_every_due_key_once_and_ends() {
    let keys = ["a", "b", "fail", "panic", "c"];
    let settings = ControllerSettings {
        capacity: 2,
        ..without_passes()
    };
    let (stub, pass) = once(&keys, settings);
    pass.await.unwrap().unwrap();
    for key in keys {
        assert_eq!(stub.reconciles_of(key), 1, "{key}");
    }
}

#[tokio::test]
async fn once_continues_after_a_short_outage() {
    let keys = ["and-another", "outage", "zzz"];
    let settings = ControllerSettings {
        concurrency: 1,
        ..without_passes()
    };
    let (stub, pass) = once(&keys, settings);
    pass.await.unwrap().unwrap();
    for key in keys {
        assert_eq!(stub.reconciles_of(key), 1, "{key}");
    }
}

#[tokio::test]
async fn once_ends_in_a_long_outage_and_cancels_nothing() {
    let settings = ControllerSettings {
        concurrency: 2,
        ..without_passes()
    };
    let (stub, pass) = once(&["outage-that-lasts", "slow", "zzz"], settings);
    wait_until("zzz", async || stub.reconciles_of("zzz") == 1).await;
    assert!(stub.table.lock().unwrap().running.contains_key("slow"));
    stub.gate.add_permits(1);
    pass.await.unwrap().unwrap_err();
    assert!(stub.table.lock().unwrap().running.is_empty());
}
