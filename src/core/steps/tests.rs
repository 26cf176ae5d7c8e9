//! Runs over steps that only record the calls to them.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::core::backoff::Backoff;
use crate::core::database::DatabaseError;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// The shared state of all steps of a test: what is in place, and the calls.
#[derive(Default)]
struct StepHost {
    in_place: Vec<&'static str>,
    calls: Vec<String>,
    /// Operations that fail, as `apply b`; `hang b` never ends.
    faults: Vec<&'static str>,
    /// The setting of the deadlines.
    setting: Option<&'static str>,
}

struct RecordingStep<'a> {
    host: &'a Mutex<StepHost>,
    name: &'static str,
    requirement: Requirement,
    input: &'static str,
}

impl RecordingStep<'_> {
    async fn operate(&self, operation: &str) -> Result<(), StepError> {
        let line = format!("{operation} {}", self.name);
        let hang = format!("hang {}", self.name);
        let (fails, hangs) = {
            let mut host = self.host.lock().unwrap();
            host.calls.push(line.clone());
            let has = |fault: &str| host.faults.contains(&fault);
            (has(&line), has(&hang))
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        if fails {
            return Err(StepError::transient("as injected"));
        }
        let mut host = self.host.lock().unwrap();
        host.in_place.retain(|name| *name != self.name);
        if operation == "apply" {
            host.in_place.push(self.name);
        }
        Ok(())
    }
}

#[async_trait]
impl Step for RecordingStep<'_> {
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

    fn deadline_setting(&self) -> Option<String> {
        self.host.lock().unwrap().setting.map(str::to_owned)
    }

    async fn observe(&self) -> StepObservation {
        if self.host.lock().unwrap().in_place.contains(&self.name) {
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
fn set<'a>(host: &'a Mutex<StepHost>, input: &'static str) -> StepSet<'a> {
    let step = |name, requirement| -> Box<dyn Step + 'a> {
        Box::new(RecordingStep {
            host,
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

/// A step log in memory; `answer` replaces the result of the write with this number.
#[derive(Default)]
struct MemoryLog {
    records: Mutex<Vec<StepRecord>>,
    writes: Mutex<usize>,
    answer: Option<(usize, Advanced)>,
}

impl MemoryLog {
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
impl StepLog for MemoryLog {
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

/// One run as in a reconcile: open, write with the intent, go, write the end.
async fn run(
    host: &Mutex<StepHost>,
    log: &MemoryLog,
    input: &'static str,
    way: Direction,
) -> RunResult {
    let (set, records) = (set(host, input), log.records.lock().unwrap().clone());
    let mut run = Run::new(&set, &records, way, Backoff::default(), NOW, None);
    let opening = run.open().await;
    log.write(&opening);
    let end = run.go(log).await;
    log.write(&end.changes);
    end.result
}

const MAKE: Direction = Direction::Forward(Purpose::Make);

fn calls(host: &Mutex<StepHost>) -> String {
    std::mem::take(&mut host.lock().unwrap().calls).join(", ")
}

fn failing(faults: &[&'static str]) -> Mutex<StepHost> {
    Mutex::new(StepHost {
        faults: faults.to_vec(),
        ..StepHost::default()
    })
}

#[tokio::test]
async fn steps_run_in_order_once_and_back() {
    let (host, log) = (Mutex::default(), MemoryLog::default());
    assert!(matches!(run(&host, &log, "1", MAKE).await, RunResult::Done));
    assert_eq!(calls(&host), "apply a, apply b, apply c");
    assert_eq!(log.states(), "a done, b done, c done");
    // The first start is written with the intent, the last end with the result.
    assert_eq!(*log.writes.lock().unwrap(), 2);
    assert!(matches!(run(&host, &log, "1", MAKE).await, RunResult::Done));
    assert_eq!(calls(&host), "");
    run(&host, &log, "1", Direction::Backward).await;
    assert_eq!(calls(&host), "remove c, remove b, remove a");
    assert_eq!(log.states(), "a removed, b removed, c removed");
}

#[tokio::test(start_paused = true)]
async fn a_late_step_names_its_setting_or_says_that_none_is() {
    let late = async |setting| {
        let (host, log) = (failing(&["hang a"]), MemoryLog::default());
        host.lock().unwrap().setting = setting;
        match run(&host, &log, "1", MAKE).await {
            RunResult::Failed(error) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let text = late(Some("TEST_DEADLINE=1m")).await;
    assert!(text.ends_with("(TEST_DEADLINE=1m)"), "{text}");
    let text = late(None).await;
    assert!(text.ends_with("(no setting changes this limit)"), "{text}");
}

#[tokio::test]
async fn changed_input_runs_all_its_steps_and_drift_one() {
    let (host, log) = (Mutex::default(), MemoryLog::default());
    run(&host, &log, "1", MAKE).await;
    calls(&host);
    host.lock().unwrap().in_place.retain(|name| *name != "b");
    run(&host, &log, "1", Direction::Forward(Purpose::Maintain)).await;
    assert_eq!(calls(&host), "apply b");
    run(&host, &log, "2", MAKE).await;
    assert_eq!(calls(&host), "apply a, apply b, apply c");
}

#[tokio::test]
async fn a_run_resumes_at_the_required_step_that_failed() {
    let (host, log) = (failing(&["apply c"]), MemoryLog::default());
    let failed = run(&host, &log, "1", MAKE).await;
    let RunResult::Failed(error) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(error.to_string(), "step c: as injected");
    assert_eq!(log.states(), "a done, b done, c failed");
    calls(&host);
    host.lock().unwrap().faults.clear();
    assert!(matches!(run(&host, &log, "1", MAKE).await, RunResult::Done));
    assert_eq!(calls(&host), "apply c");
    assert_eq!(log.records.lock().unwrap()[2].attempt, 2);
}

#[tokio::test]
async fn a_run_continues_after_a_best_effort_failure() {
    let (host, log) = (failing(&["apply b"]), MemoryLog::default());
    assert!(matches!(run(&host, &log, "1", MAKE).await, RunResult::Done));
    assert_eq!(log.states(), "a done, b failed, c done");
    let next = log.records.lock().unwrap()[1].next_try_at.unwrap();
    assert!(next >= NOW + SignedDuration::from_secs(4));
    calls(&host);
    run(&host, &log, "1", Direction::Forward(Purpose::Maintain)).await;
    assert_eq!(calls(&host), "", "its next attempt is not due");
    log.records.lock().unwrap()[1].next_try_at = Some(NOW);
    run(&host, &log, "1", Direction::Forward(Purpose::Maintain)).await;
    assert_eq!(calls(&host), "apply b");
    assert_eq!(log.records.lock().unwrap()[1].attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_hangs_is_late() {
    let (host, log) = (failing(&["hang a"]), MemoryLog::default());
    let late = run(&host, &log, "1", MAKE).await;
    assert!(
        matches!(&late, RunResult::Failed(error @ StepError::Late { .. })
            if error.to_string() == "step a: not finished within 60.0 s (no setting changes this limit)"),
        "{late:?}"
    );
    assert_eq!(log.states(), "a failed");
}

#[tokio::test]
async fn a_changed_row_or_lost_lease_stops_between_steps() {
    for (answer, expected) in [
        (Advanced::PlanAgain, "PlanAgain"),
        (Advanced::LeaseLost, "LeaseLost"),
    ] {
        let host = Mutex::default();
        let log = MemoryLog {
            answer: Some((1, answer)),
            ..MemoryLog::default()
        };
        let result = run(&host, &log, "1", MAKE).await;
        assert_eq!(format!("{result:?}"), expected);
        assert_eq!(calls(&host), "apply a");
    }
}

#[tokio::test]
async fn a_best_effort_removal_is_given_up_after_3_attempts() {
    let (host, log) = (failing(&["apply b", "remove b"]), MemoryLog::default());
    // Attempts to apply it do not count for its removal.
    for _ in 0..3 {
        run(&host, &log, "1", MAKE).await;
        log.records.lock().unwrap()[1].next_try_at = None;
    }
    assert_eq!(log.records.lock().unwrap()[1].attempt, 3);
    for attempt in 1..=3 {
        calls(&host);
        let result = run(&host, &log, "1", Direction::Backward).await;
        let given_up = attempt == 3;
        assert_eq!(
            matches!(result, RunResult::Done),
            given_up,
            "{attempt}: {result:?}"
        );
        let removed_first = if attempt == 1 { "remove c, " } else { "" };
        let removed_last = if given_up { ", remove a" } else { "" };
        let expected = format!("{removed_first}remove b{removed_last}");
        assert_eq!(calls(&host), expected);
    }
    assert_eq!(log.states(), "a removed, b failed, c removed");
    assert_eq!(
        log.records.lock().unwrap()[1].reason.as_deref(),
        Some("GivenUp")
    );
}
