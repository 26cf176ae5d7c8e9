//! The generic controller: event-driven, level-triggered, one turn a key,
//! bounded, and able to end.

mod example;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kindler::core::controller::{
    ClaimOutcome, Controller, ControllerSettings, Finished, Reconciler, Signals,
};
use kindler::core::queue::Key;
use kindler::core::wakeups::WakeupQueue;
use kindler::metrics::Metrics;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::kit::eventually;

/// A table in memory, and a journal of what was done to it.
#[derive(Default)]
struct Table {
    due: BTreeSet<String>,
    running: BTreeMap<String, usize>,
    most_at_once: usize,
    turns: Vec<String>,
    stopped: Vec<String>,
}

/// What every key would meet now.
#[derive(Debug, thiserror::Error)]
#[error("unreachable")]
struct Unreachable;

struct Stub {
    table: Mutex<Table>,
    /// What is due cannot be found any more.
    down: AtomicBool,
    /// A turn of a key that begins with "slow" needs one permit to end.
    gate: Semaphore,
}

impl Stub {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::default(),
            down: AtomicBool::default(),
            gate: Semaphore::new(0),
        })
    }

    fn turns_of(&self, key: &str) -> usize {
        self.table
            .lock()
            .unwrap()
            .turns
            .iter()
            .filter(|turn| *turn == key)
            .count()
    }
}

#[async_trait]
impl Reconciler for Stub {
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
            table.turns.push(key.to_owned());
        }
        assert!(!key.starts_with("panic"), "as asked");
        if key.starts_with("slow") {
            tokio::select! {
                permit = self.gate.acquire() => permit.unwrap().forget(),
                () = signals.stopped() => self.table.lock().unwrap().stopped.push(key.to_owned()),
            }
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

struct Running {
    stub: Arc<Stub>,
    wakeups: WakeupQueue,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn run(stub: Arc<Stub>, settings: ControllerSettings) -> Running {
    let (wakeups, shutdown) = (WakeupQueue::default(), CancellationToken::new());
    let metrics = Metrics::new().controller("stub");
    let controller = Controller::new(stub.clone(), settings, wakeups.clone(), metrics);
    let task = tokio::spawn(controller.run(shutdown.clone()));
    Running {
        stub,
        wakeups,
        shutdown,
        task,
    }
}

/// No pass comes by itself within a test.
fn rarely() -> ControllerSettings {
    ControllerSettings {
        resync: Duration::from_secs(3600),
        ..ControllerSettings::default()
    }
}

async fn soon<F: AsyncFn() -> bool>(awaited: &str, condition: F) {
    eventually(Duration::from_secs(10), awaited, || condition()).await;
}

#[tokio::test]
async fn a_ring_starts_its_key_and_a_pass_finds_what_nobody_rang_for() {
    let stub = Stub::new();
    stub.table.lock().unwrap().due.insert("lost".into());
    let running = run(
        stub,
        ControllerSettings {
            resync: Duration::from_millis(50),
            ..rarely()
        },
    );
    running.wakeups.wake("rung");
    for key in ["rung", "lost"] {
        soon(key, async || running.stub.turns_of(key) == 1).await;
    }
    running
        .stub
        .table
        .lock()
        .unwrap()
        .due
        .insert("later".into());
    soon("a key that became due between passes", async || {
        running.stub.turns_of("later") == 1
    })
    .await;
}

#[tokio::test]
async fn rings_while_a_key_runs_lead_to_exactly_one_more_turn() {
    let running = run(Stub::new(), rarely());
    running.wakeups.wake("slow");
    soon("the first turn", async || {
        running.stub.turns_of("slow") == 1
    })
    .await;
    for _ in 0..5 {
        running.wakeups.wake("slow");
        running.wakeups.wake("other");
    }
    soon("another key meanwhile", async || {
        running.stub.turns_of("other") >= 1
    })
    .await;
    running.stub.gate.add_permits(10);
    soon("the second turn", async || {
        running.stub.turns_of("slow") == 2
    })
    .await;
    running.shutdown.cancel();
    running.task.await.unwrap();
    assert_eq!(running.stub.turns_of("slow"), 2);
}

#[tokio::test]
async fn no_more_than_the_limit_run_at_once_and_a_flood_loses_no_key() {
    let stub = Stub::new();
    let keys: Vec<String> = (0..10_000).map(|n| format!("k{n}")).collect();
    stub.table.lock().unwrap().due.extend(keys.iter().cloned());
    let settings = ControllerSettings {
        capacity: 100,
        concurrency: 4,
        ..rarely()
    };
    let running = run(stub, settings);
    for key in &keys {
        running.wakeups.wake(key);
    }
    soon("every key", async || {
        running.stub.table.lock().unwrap().due.is_empty()
    })
    .await;
    assert!(running.stub.table.lock().unwrap().most_at_once <= 4);
}

#[tokio::test]
async fn more_keys_than_the_queue_holds_can_wait_for_a_distant_time() {
    let stub = Stub::new();
    let keys = |of: &str| {
        (0..50)
            .map(move |n| format!("{of}-{n}"))
            .collect::<Vec<_>>()
    };
    stub.table.lock().unwrap().due.extend(keys("check"));
    let settings = ControllerSettings {
        capacity: 10,
        resync: Duration::from_millis(200),
        ..rarely()
    };
    let running = run(stub, settings);
    soon("every check", async || {
        running.stub.table.lock().unwrap().due.is_empty()
    })
    .await;
    // All of them are known to be due in an hour; that is no reason to be full.
    running.stub.table.lock().unwrap().due.extend(keys("new"));
    soon("what is due now", async || {
        running.stub.table.lock().unwrap().due.is_empty()
    })
    .await;
    assert_eq!(running.stub.turns_of("check-0"), 1);
}

#[tokio::test]
async fn a_panic_and_failures_hold_nobody_up() {
    let stub = Stub::new();
    stub.table
        .lock()
        .unwrap()
        .due
        .extend((0..500).map(|n| format!("fail{n}")));
    let settings = ControllerSettings {
        resync: Duration::from_millis(200),
        ..rarely()
    };
    let running = run(stub, settings);
    running.wakeups.wake("panic");
    running.wakeups.wake("good");
    soon("the good key", async || running.stub.turns_of("good") == 1).await;
    soon("a retry of a failing key", async || {
        running.stub.turns_of("fail0") >= 2
    })
    .await;
    assert!(!running.task.is_finished());
}

#[tokio::test]
async fn shutdown_waits_then_asks_then_ends() {
    let settings = ControllerSettings {
        finish_within: Duration::from_millis(50),
        stop_within: Duration::from_secs(10),
        ..rarely()
    };
    let running = run(Stub::new(), settings);
    running.wakeups.wake("slow");
    soon("the turn", async || running.stub.turns_of("slow") == 1).await;
    running.wakeups.wake("slow2");
    soon("the other turn", async || {
        running.stub.turns_of("slow2") == 1
    })
    .await;
    running.shutdown.cancel();
    running.wakeups.wake("too late");
    running.task.await.unwrap();
    let mut stopped = running.stub.table.lock().unwrap().stopped.clone();
    stopped.sort();
    assert_eq!(stopped, ["slow", "slow2"]);
    assert_eq!(running.stub.turns_of("too late"), 0);
}

/// One complete pass over these keys, and who remembers what was done.
fn once(
    keys: &[&str],
    settings: ControllerSettings,
) -> (Arc<Stub>, JoinHandle<Result<(), Unreachable>>) {
    let stub = Stub::new();
    let due = keys.iter().map(ToString::to_string);
    stub.table.lock().unwrap().due.extend(due);
    let metrics = Metrics::new().controller("stub");
    let controller = Controller::new(stub.clone(), settings, WakeupQueue::default(), metrics);
    let pass = tokio::spawn(controller.run_once(CancellationToken::new()));
    (stub, pass)
}

#[tokio::test]
async fn once_gives_every_due_key_one_turn_and_ends() {
    let keys = ["a", "b", "fail", "panic", "c"];
    let settings = ControllerSettings {
        capacity: 2,
        ..rarely()
    };
    let (stub, pass) = once(&keys, settings);
    pass.await.unwrap().unwrap();
    for key in keys {
        assert_eq!(stub.turns_of(key), 1, "{key}");
    }
}

#[tokio::test]
async fn once_waits_an_outage_out_and_gives_up_nobody() {
    let keys = ["and-another", "outage", "zzz"];
    let settings = ControllerSettings {
        concurrency: 1,
        ..rarely()
    };
    let (stub, pass) = once(&keys, settings);
    pass.await.unwrap().unwrap();
    for key in keys {
        assert_eq!(stub.turns_of(key), 1, "{key}");
    }
}

#[tokio::test]
async fn once_cuts_nothing_short_in_an_outage_and_ends_with_one_that_lasts() {
    let settings = ControllerSettings {
        concurrency: 2,
        ..rarely()
    };
    let (stub, pass) = once(&["outage-that-lasts", "slow", "zzz"], settings);
    soon("zzz", async || stub.turns_of("zzz") == 1).await;
    assert!(stub.table.lock().unwrap().running.contains_key("slow"));
    stub.gate.add_permits(1);
    pass.await.unwrap().unwrap_err();
    assert!(stub.table.lock().unwrap().running.is_empty());
}
