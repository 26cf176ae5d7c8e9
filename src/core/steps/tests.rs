//! Runs over steps that only remember what was done to them.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::core::backoff::Backoff;
use crate::core::database::DatabaseError;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// What every step of a scene shares: what is in place, and what was done.
#[derive(Default)]
struct World {
    in_place: Vec<&'static str>,
    journal: Vec<String>,
    /// Operations that fail, as `apply b`; `hang b` never ends.
    faults: Vec<&'static str>,
}

struct Remembering<'a> {
    world: &'a Mutex<World>,
    name: &'static str,
    requirement: Requirement,
    input: &'static str,
}

impl Remembering<'_> {
    async fn operate(&self, operation: &str) -> Result<(), StepError> {
        let line = format!("{operation} {}", self.name);
        let hang = format!("hang {}", self.name);
        let (fails, hangs) = {
            let mut world = self.world.lock().unwrap();
            world.journal.push(line.clone());
            let has = |fault: &str| world.faults.contains(&fault);
            (has(&line), has(&hang))
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        if fails {
            return Err(StepError::transient("as ordered"));
        }
        let mut world = self.world.lock().unwrap();
        world.in_place.retain(|name| *name != self.name);
        if operation == "apply" {
            world.in_place.push(self.name);
        }
        Ok(())
    }
}

#[async_trait]
impl Step for Remembering<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn requirement(&self) -> Requirement {
        self.requirement
    }

    fn input(&self) -> String {
        self.input.to_owned()
    }

    fn deadline(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }

    async fn observe(&self) -> StepObservation {
        if self.world.lock().unwrap().in_place.contains(&self.name) {
            StepObservation::InPlace
        } else {
            StepObservation::NotInPlace("it is not there".into())
        }
    }

    async fn apply(&self) -> Result<(), StepError> {
        self.operate("apply").await
    }

    async fn remove(&self) -> Result<(), StepError> {
        self.operate("remove").await
    }
}

/// Three steps, the second best-effort.
fn set<'a>(world: &'a Mutex<World>, input: &'static str) -> StepSet<'a> {
    let step = |name, requirement| -> Box<dyn Step + 'a> {
        Box::new(Remembering {
            world,
            name,
            requirement,
            input,
        })
    };
    let steps = vec![
        step("a", Requirement::Required),
        step("b", Requirement::BestEffort),
        step("c", Requirement::Required),
    ];
    StepSet::of("test", steps)
}

/// Records in memory; the answer to the write with this number is another.
#[derive(Default)]
struct Log {
    records: Mutex<Vec<StepRecord>>,
    writes: Mutex<usize>,
    answer: Option<(usize, Advanced)>,
}

impl Log {
    fn write(&self, changes: &[StepChange]) {
        let mut records = self.records.lock().unwrap();
        for change in changes {
            change.apply_to(&mut records, NOW);
        }
    }

    fn states(&self) -> String {
        let records = self.records.lock().unwrap();
        let words = records.iter().map(|r| format!("{} {}", r.name, r.state));
        words.collect::<Vec<_>>().join(", ")
    }
}

#[async_trait]
impl StepLog for Log {
    async fn advance(&self, changes: &[StepChange], _: &str) -> Result<Advanced, DatabaseError> {
        let mut writes = self.writes.lock().unwrap();
        *writes += 1;
        let answer = match self.answer {
            Some((at, answer)) if at == *writes => answer,
            _ => Advanced::GoOn,
        };
        if answer == Advanced::GoOn {
            self.write(changes);
        }
        Ok(answer)
    }
}

/// One run as a reconcile makes it: open, write with the intent, go, write the end.
async fn run(world: &Mutex<World>, log: &Log, input: &'static str, way: Direction) -> RunResult {
    let (set, records) = (set(world, input), log.records.lock().unwrap().clone());
    let mut run = Run::new(&set, &records, way, Backoff::default(), NOW, None);
    let opening = run.open().await;
    log.write(&opening);
    let end = run.go(log).await;
    log.write(&end.changes);
    end.result
}

const MAKE: Direction = Direction::Forward(Purpose::Make);

fn journal(world: &Mutex<World>) -> String {
    std::mem::take(&mut world.lock().unwrap().journal).join(", ")
}

fn failing(faults: &[&'static str]) -> Mutex<World> {
    Mutex::new(World {
        faults: faults.to_vec(),
        ..World::default()
    })
}

#[tokio::test]
async fn steps_run_in_order_once_and_back() {
    let (world, log) = (Mutex::default(), Log::default());
    assert!(matches!(
        run(&world, &log, "1", MAKE).await,
        RunResult::Done
    ));
    assert_eq!(journal(&world), "apply a, apply b, apply c");
    assert_eq!(log.states(), "a done, b done, c done");
    // The first start rides with the intent, the last end with the result.
    assert_eq!(*log.writes.lock().unwrap(), 2);
    assert!(matches!(
        run(&world, &log, "1", MAKE).await,
        RunResult::Done
    ));
    assert_eq!(journal(&world), "");
    run(&world, &log, "1", Direction::Backward).await;
    assert_eq!(journal(&world), "remove c, remove b, remove a");
    assert_eq!(log.states(), "a removed, b removed, c removed");
}

#[tokio::test]
async fn a_changed_input_runs_all_that_depend_on_it_and_drift_one() {
    let (world, log) = (Mutex::default(), Log::default());
    run(&world, &log, "1", MAKE).await;
    journal(&world);
    world.lock().unwrap().in_place.retain(|name| *name != "b");
    run(&world, &log, "1", Direction::Forward(Purpose::Maintain)).await;
    assert_eq!(journal(&world), "apply b");
    run(&world, &log, "2", MAKE).await;
    assert_eq!(journal(&world), "apply a, apply b, apply c");
}

#[tokio::test]
async fn a_required_failure_ends_the_run_and_is_resumed_there() {
    let (world, log) = (failing(&["apply c"]), Log::default());
    let failed = run(&world, &log, "1", MAKE).await;
    let RunResult::Failed(error) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(error.to_string(), "step c: as ordered");
    assert_eq!(log.states(), "a done, b done, c failed");
    journal(&world);
    world.lock().unwrap().faults.clear();
    assert!(matches!(
        run(&world, &log, "1", MAKE).await,
        RunResult::Done
    ));
    assert_eq!(journal(&world), "apply c");
    assert_eq!(log.records.lock().unwrap()[2].attempt, 2);
}

#[tokio::test]
async fn a_best_effort_failure_waits_and_the_run_goes_on() {
    let (world, log) = (failing(&["apply b"]), Log::default());
    assert!(matches!(
        run(&world, &log, "1", MAKE).await,
        RunResult::Done
    ));
    assert_eq!(log.states(), "a done, b failed, c done");
    let next = log.records.lock().unwrap()[1].next_try_at.unwrap();
    assert!(next >= NOW + SignedDuration::from_secs(4));
    journal(&world);
    run(&world, &log, "1", Direction::Forward(Purpose::Maintain)).await;
    assert_eq!(journal(&world), "", "its next try is not due");
    log.records.lock().unwrap()[1].next_try_at = Some(NOW);
    run(&world, &log, "1", Direction::Forward(Purpose::Maintain)).await;
    assert_eq!(journal(&world), "apply b");
    assert_eq!(log.records.lock().unwrap()[1].attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_hangs_is_late() {
    let (world, log) = (failing(&["hang a"]), Log::default());
    let late = run(&world, &log, "1", MAKE).await;
    assert!(
        matches!(&late, RunResult::Failed(error @ StepError::Late { .. })
            if error.to_string() == "step a: not finished within 60.0 s"),
        "{late:?}"
    );
    assert_eq!(log.states(), "a failed");
}

#[tokio::test]
async fn a_row_that_changed_or_a_lost_lease_stops_the_run_between_steps() {
    for (answer, expected) in [
        (Advanced::PlanAgain, "PlanAgain"),
        (Advanced::LeaseLost, "LeaseLost"),
    ] {
        let world = Mutex::default();
        let log = Log {
            answer: Some((1, answer)),
            ..Log::default()
        };
        let result = run(&world, &log, "1", MAKE).await;
        assert_eq!(format!("{result:?}"), expected);
        assert_eq!(journal(&world), "apply a");
    }
}

#[tokio::test]
async fn a_best_effort_removal_is_given_up_after_three_attempts() {
    let (world, log) = (failing(&["apply b", "remove b"]), Log::default());
    // Attempts to apply it do not count for its removal.
    for _ in 0..3 {
        run(&world, &log, "1", MAKE).await;
        log.records.lock().unwrap()[1].next_try_at = None;
    }
    assert_eq!(log.records.lock().unwrap()[1].attempt, 3);
    for attempt in 1..=3 {
        journal(&world);
        let result = run(&world, &log, "1", Direction::Backward).await;
        let given_up = attempt == 3;
        assert_eq!(
            matches!(result, RunResult::Done),
            given_up,
            "{attempt}: {result:?}"
        );
        let removed_first = if attempt == 1 { "remove c, " } else { "" };
        let removed_last = if given_up { ", remove a" } else { "" };
        let expected = format!("{removed_first}remove b{removed_last}");
        assert_eq!(journal(&world), expected);
    }
    assert_eq!(log.states(), "a removed, b failed, c removed");
    assert_eq!(
        log.records.lock().unwrap()[1].reason.as_deref(),
        Some("GivenUp")
    );
}
