//! The product's own decisions about a row and its recorded steps, each computed once
//! per thread: the result depends only on the arguments.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use kindler::clusters::health::HealthPolicy;
use kindler::clusters::plan::steps::{
    StepsOf, after_removal, after_run, before_removal, required_step_failed, with_steps,
};
use kindler::clusters::plan::{
    Action, Conclusion, Decision, Failure, Moment, Persistence, Policy, Status, conclude, plan,
};
use kindler::clusters::{Actual, Cluster};

use crate::row::{CommandResult, NOW, Observed, Row};
use crate::rules::Layout;
use crate::steps::{DRIVER, Records, facts, recorded};

/// The input of a status decision, so that it can be decided again when the write takes
/// effect: a state of the model holds this instead of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    Planned(Option<Observed>),
    Concluded(Action, CommandResult, Observed),
    /// A required step of a running cluster cannot be reapplied.
    StepLost,
}

/// The steps that a decision takes into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Steps {
    pub layout: Layout,
    pub records: Records,
    /// A defect: leftovers of steps are not checked.
    pub ignores_leftovers: bool,
    /// A defect: failures of steps are not checked.
    pub ignores_failures: bool,
}

/// A [`Decision`] without the status in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    Rest,
    Observe,
    Record,
    Act(Action),
    Remove,
}

/// The decision of the product.
pub fn decide(row: &Row, basis: Basis, steps: &Steps) -> Decided {
    ANSWERS.with_borrow_mut(|answers| {
        *answers
            .decided
            .entry((*row, basis, *steps))
            .or_insert_with(|| ask(row, basis, steps).0)
    })
}

/// The row as the product would write it to `current` after a decision on `decided_on`.
pub fn written(current: &Row, decided_on: &Row, basis: Basis, steps: &Steps) -> Row {
    ANSWERS.with_borrow_mut(|answers| {
        *answers
            .written
            .entry((*current, *decided_on, basis, *steps))
            .or_insert_with(|| {
                let (_, status) = ask(decided_on, basis, steps);
                current.with(&status.expect("only a status is written"), decided_on)
            })
    })
}

/// Whether a row with this observation is healthy, so that its steps are maintained:
/// the check in `reconcile::record`.
pub fn needs_step_maintenance(row: &Row, observed: Observed, steps: &Steps) -> bool {
    observed == Observed::Healthy
        && row.applied == Some(row.spec)
        && !row.paused
        && written(row, row, Basis::Planned(Some(observed)), steps).actual == Actual::Running
}

#[derive(Default)]
struct Answers {
    decided: HashMap<(Row, Basis, Steps), Decided>,
    written: HashMap<(Row, Row, Basis, Steps), Row>,
}

thread_local! {
    static ANSWERS: RefCell<Answers> = RefCell::default();
}

const MOMENT: Moment = Moment {
    now: NOW,
    jitter: 0.5,
};

fn ask(row: &Row, basis: Basis, steps: &Steps) -> (Decided, Option<Status>) {
    let cluster = row.cluster();
    let records = recorded(steps.layout, &steps.records);
    let of = StepsOf {
        driver: DRIVER,
        facts: facts(steps.layout, row.spec),
        records: &records,
    };
    let (decided, status) = match basis {
        Basis::Planned(observed) => planned(&cluster, observed, of, steps.ignores_leftovers),
        Basis::Concluded(action, ended, observed) => {
            concluded(&cluster, (action, ended, observed), of, steps)
        }
        Basis::StepLost => {
            let failure = Failure {
                persistence: Persistence::Transient,
                summary: "step network: exit code 1".to_owned(),
                detail: String::new(),
            };
            let status = required_step_failed(&cluster, &failure, &policy(), MOMENT);
            (Decided::Record, Some(status))
        }
    };
    match decided {
        Decided::Record => (decided, status.map(|status| with_steps(status, of, NOW))),
        _ => (decided, status),
    }
}

fn planned(
    cluster: &Cluster,
    observed: Option<Observed>,
    steps: StepsOf<'_>,
    ignores_leftovers: bool,
) -> (Decided, Option<Status>) {
    let observed = observed.map(Observed::observation);
    let decision = plan(cluster, observed.as_ref(), &policy(), MOMENT);
    let decision = if ignores_leftovers {
        decision
    } else {
        before_removal(cluster, decision, steps, &policy(), MOMENT)
    };
    match decision {
        Decision::Rest { .. } => (Decided::Rest, None),
        Decision::Observe { .. } => (Decided::Observe, None),
        Decision::Record(status) => (Decided::Record, Some(status)),
        Decision::Act { action, intent } => (Decided::Act(action), Some(intent)),
        Decision::Remove => (Decided::Remove, None),
    }
}

fn concluded(
    cluster: &Cluster,
    (action, ended, observed): (Action, CommandResult, Observed),
    of: StepsOf<'_>,
    steps: &Steps,
) -> (Decided, Option<Status>) {
    let (outcome, observed) = (ended.outcome(), observed.observation());
    let conclusion = conclude(cluster, action, &outcome, &observed, &policy(), MOMENT);
    let conclusion = if steps.ignores_failures {
        conclusion
    } else {
        after_run(
            cluster,
            (action, &outcome),
            conclusion,
            of,
            &policy(),
            MOMENT,
        )
    };
    match conclusion {
        Conclusion::Record(status) => (Decided::Record, Some(status)),
        Conclusion::Remove if steps.ignores_leftovers => (Decided::Remove, None),
        Conclusion::Remove => match after_removal(cluster, of, &policy(), MOMENT) {
            Some(status) => (Decided::Record, Some(status)),
            None => (Decided::Remove, None),
        },
    }
}

/// Two failed probes mean lost: fewer states with the same behaviour.
fn policy() -> Policy {
    Policy {
        health: HealthPolicy {
            threshold: 2,
            ..HealthPolicy::default()
        },
        ..Policy::default()
    }
}
