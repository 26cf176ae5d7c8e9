//! The product's own decisions about a row and its recorded steps, each asked for
//! once per thread: the answer depends on nothing but the arguments.

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

use crate::row::{Ended, NOW, Row, Seen};
use crate::rules::Layout;
use crate::steps::{DRIVER, Records, facts, recorded};

/// What a status was decided from, so that it can be decided again when the
/// write lands: a state of the model holds this instead of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grounds {
    Planned(Option<Seen>),
    Concluded(Action, Ended, Seen),
    /// A required step of a running cluster cannot be put back.
    StepLost,
}

/// The steps that a decision takes into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Steps {
    pub layout: Layout,
    pub records: Records,
    /// A defect: what is left of steps is not asked for.
    pub leftovers_ignored: bool,
    /// A defect: what became of steps is not asked for.
    pub failure_ignored: bool,
}

/// A [`Decision`] without the status in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    Rest,
    Look,
    Record,
    Act(Action),
    Remove,
}

/// What the product decides.
pub fn decide(row: &Row, grounds: Grounds, steps: &Steps) -> Decided {
    ANSWERS.with_borrow_mut(|answers| {
        *answers
            .decided
            .entry((*row, grounds, *steps))
            .or_insert_with(|| ask(row, grounds, steps).0)
    })
}

/// The row as the product would write it onto `current`, decided on `held`.
pub fn written(current: &Row, held: &Row, grounds: Grounds, steps: &Steps) -> Row {
    ANSWERS.with_borrow_mut(|answers| {
        *answers
            .written
            .entry((*current, *held, grounds, *steps))
            .or_insert_with(|| {
                let (_, status) = ask(held, grounds, steps);
                current.with(&status.expect("only a status is written"), held)
            })
    })
}

/// Whether a row that was observed so is found well, so that its steps are looked
/// after: what `reconcile::record` asks.
pub fn well(row: &Row, seen: Seen, steps: &Steps) -> bool {
    seen == Seen::Healthy
        && row.applied == Some(row.spec)
        && !row.paused
        && written(row, row, Grounds::Planned(Some(seen)), steps).actual == Actual::Running
}

#[derive(Default)]
struct Answers {
    decided: HashMap<(Row, Grounds, Steps), Decided>,
    written: HashMap<(Row, Row, Grounds, Steps), Row>,
}

thread_local! {
    static ANSWERS: RefCell<Answers> = RefCell::default();
}

const MOMENT: Moment = Moment {
    now: NOW,
    jitter: 0.5,
};

fn ask(row: &Row, grounds: Grounds, steps: &Steps) -> (Decided, Option<Status>) {
    let cluster = row.cluster();
    let records = recorded(steps.layout, &steps.records);
    let of = StepsOf {
        driver: DRIVER,
        facts: facts(steps.layout, row.spec),
        records: &records,
    };
    let (decided, status) = match grounds {
        Grounds::Planned(seen) => planned(&cluster, seen, of, steps.leftovers_ignored),
        Grounds::Concluded(action, ended, seen) => {
            concluded(&cluster, (action, ended, seen), of, steps)
        }
        Grounds::StepLost => {
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
    seen: Option<Seen>,
    steps: StepsOf<'_>,
    leftovers_ignored: bool,
) -> (Decided, Option<Status>) {
    let observed = seen.map(Seen::observation);
    let decision = plan(cluster, observed.as_ref(), &policy(), MOMENT);
    let decision = if leftovers_ignored {
        decision
    } else {
        before_removal(cluster, decision, steps, &policy(), MOMENT)
    };
    match decision {
        Decision::Rest { .. } => (Decided::Rest, None),
        Decision::Observe { .. } => (Decided::Look, None),
        Decision::Record(status) => (Decided::Record, Some(status)),
        Decision::Act { action, intent } => (Decided::Act(action), Some(intent)),
        Decision::Remove => (Decided::Remove, None),
    }
}

fn concluded(
    cluster: &Cluster,
    (action, ended, seen): (Action, Ended, Seen),
    of: StepsOf<'_>,
    steps: &Steps,
) -> (Decided, Option<Status>) {
    let (outcome, seen) = (ended.outcome(), seen.observation());
    let conclusion = conclude(cluster, action, &outcome, &seen, &policy(), MOMENT);
    let conclusion = if steps.failure_ignored {
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
        Conclusion::Remove if steps.leftovers_ignored => (Decided::Remove, None),
        Conclusion::Remove => match after_removal(cluster, of, &policy(), MOMENT) {
            Some(status) => (Decided::Record, Some(status)),
            None => (Decided::Remove, None),
        },
    }
}

/// Two failed probes mean lost, which saves states and shows the same.
fn policy() -> Policy {
    Policy {
        health: HealthPolicy {
            threshold: 2,
            ..HealthPolicy::default()
        },
        ..Policy::default()
    }
}
