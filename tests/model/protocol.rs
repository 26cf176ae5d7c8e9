//! All possible events, as a `stateright` model.
//!
//! Notifications are not modelled: they only make a pass start sooner, and here a pass
//! may begin whenever a row is due, so every order with and without them is included.

use std::collections::HashMap;
use std::sync::Mutex;

use kindler::clusters::Desired;
use kindler::clusters::plan::Action;
use kindler::core::steps::Requirement;
use stateright::{Model, Property};

use crate::host::{Command, Condition, Host, Phase, Work};
use crate::properties;
use crate::row::{CommandResult, Observed, Row};
use crate::rules::{Defect, Rules};
use crate::run::RunPurpose;
use crate::state::{Cancellation, Owner, Stage, State, Statement, Violation};
use crate::steps::{LAST, NETWORK, Record};

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A person changes the desired state.
    SetDesired(Desired),
    /// A person changes the spec.
    ChangeSpec,
    /// A person pauses or resumes the row.
    TogglePause,
    /// A person inserts the row again after its removal.
    Redeclare,
    /// An owner takes its next step; for an idle one this is the full pass.
    Proceed(usize),
    /// A renewal during an observation or a command.
    Renew(usize),
    /// An owner sees that it no longer trusts its lease.
    TrustExpired(usize),
    /// Like `Proceed`, but the statement never reaches the database.
    LoseRequest(usize),
    /// Like `Proceed`, but the answer is lost and the effect comes late.
    LoseAnswer(usize),
    LoseRenewalAnswer(usize),
    /// A claim is slow between reading the row and taking the lease.
    SlowClaim(usize),
    /// An observation fails, or its output is empty or cancel off.
    FailObservation(usize),
    /// `kill -9`; the replica starts again.
    Crash(usize),
    /// The process is asked to end, and cancels its command.
    Shutdown(usize),
    /// A command makes progress.
    Work(usize, Work),
    /// A guard kills its command.
    GuardKills(usize),
    /// A replica on the same host has proven that the owner of the lease has ended, with
    /// every command that it started, and releases the lease.
    ReleaseOfEnded,
    /// A statement takes effect after its sender gave up on it.
    ApplyDelayed,
    /// Half of the lease time passes.
    Tick,
    /// The next attempt or check of the row becomes due, and so do the retries of its
    /// steps.
    ComeDue,
    /// Only the row becomes due; its steps still wait.
    ComeDueBeforeSteps,
    /// The cluster changes without a command.
    HostChanges(Condition),
    /// The effect of a step vanishes.
    ArtifactVanishes(usize),
}

pub struct Protocol {
    pub rules: Rules,
    /// The number of steps to rest, for states whose path was already followed.
    pub steps_to_rest: Mutex<HashMap<u64, u8>>,
}

impl Protocol {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            steps_to_rest: Mutex::default(),
        }
    }

    /// Whether the guard of this command has a reason to end it.
    pub fn must_end(&self, state: &State, command: &Command) -> bool {
        !self.rules.has(Defect::NoGuard)
            && (command.cancelled || command.trusted == 0 || state.is_orphan(command))
    }

    fn person_events(state: &State, events: &mut Vec<Event>) {
        if state.pauses > 0 && state.row.is_some() {
            events.push(Event::TogglePause);
        }
        if state.changes == 0 {
            return;
        }
        let Some(row) = state.row else {
            return events.push(Event::Redeclare);
        };
        let others = Desired::ALL.iter().filter(|d| **d != row.desired);
        events.extend(others.map(|desired| Event::SetDesired(*desired)));
        events.push(Event::ChangeSpec);
    }

    fn owner_events(state: &State, index: usize, events: &mut Vec<Event>) {
        let owner = &state.owners[index];
        let may_fault = state.faults > 0;
        events.push(Event::Proceed(index));
        if owner.stage == Stage::Idle {
            if may_fault && state.row.is_some_and(|row| row.is_due()) {
                events.push(Event::SlowClaim(index));
            }
            return;
        }
        if owner.renews_lease() {
            events.push(Event::Renew(index));
        }
        if owner.watches_trust() && owner.trust == 0 {
            events.push(Event::TrustExpired(index));
        }
        if !may_fault {
            return;
        }
        events.push(Event::Crash(index));
        if owner.statement().is_some() {
            events.push(Event::LoseRequest(index));
        }
        if state.delayed.is_none() {
            if owner.statement().is_some() {
                events.push(Event::LoseAnswer(index));
            } else if owner.renews_lease() {
                events.push(Event::LoseRenewalAnswer(index));
            }
        }
        match owner.stage {
            Stage::Observing(_) | Stage::Verifying(..) => {
                events.push(Event::FailObservation(index))
            }
            Stage::ObservingSteps(..) if owner.run.purpose != RunPurpose::Remove => {
                events.push(Event::FailObservation(index));
            }
            Stage::Acting(_, _, cancellation) if cancellation != Some(Cancellation::OwnerStops) => {
                events.push(Event::Shutdown(index));
            }
            _ => {}
        }
    }

    fn command_events(&self, state: &State, index: usize, events: &mut Vec<Event>) {
        let command = &state.commands[index];
        if self.must_end(state, command) {
            events.push(Event::GuardKills(index));
        }
        let work = |work| Event::Work(index, work);
        events.push(match command.phase {
            Phase::Begun if command.can_be_half_done() => work(Work::Begin),
            Phase::Begun | Phase::HalfWay => work(Work::Finish),
        });
        if state.faults > 0 {
            events.push(work(Work::Fail));
            let observed = command.step.is_some() && self.rules.layout.observable();
            if command.phase == Phase::HalfWay || (observed && !command.can_be_half_done()) {
                events.push(work(Work::FinishThenFail));
            }
            // If the cluster answers, a false success would be undetectable; a step
            // that is observed separately counts as done only if it is in place.
            if state.host.condition != Condition::Healthy && !observed {
                events.push(work(Work::FalseSuccess));
            }
            if self.may_give_up(command) {
                events.push(work(Work::GiveUp));
            }
        }
    }

    /// A best-effort removal may be given up; the model does not count attempts.
    fn may_give_up(&self, command: &Command) -> bool {
        let last = command.step.map(usize::from) == Some(LAST);
        let best_effort = self.rules.layout.requirement(LAST) == Requirement::BestEffort;
        last && best_effort && command.action == Action::Delete
    }

    /// Whether the lock of the lease's owner is free: `command::OwnerLocks`.
    fn owner_has_ended(&self, state: &State, term: u8) -> bool {
        let daemon = state.owners.iter().any(|owner| owner.term == term);
        let commands = state.commands.iter().any(|command| command.term == term);
        !daemon && (!commands || self.rules.has(Defect::LockIgnoresCommands))
    }

    fn environment_events(&self, state: &State, events: &mut Vec<Event>) {
        if state
            .lease
            .is_some_and(|lease| self.owner_has_ended(state, lease.term))
        {
            events.push(Event::ReleaseOfEnded);
        }
        if state.delayed.is_some() {
            events.push(Event::ApplyDelayed);
        }
        events.push(Event::Tick);
        if state.row.is_some_and(|row| !row.is_due()) {
            events.push(Event::ComeDue);
            let waits = |step: &Record| step.next_try == Some(true);
            if state.steps.iter().flatten().any(waits) {
                events.push(Event::ComeDueBeforeSteps);
            }
        }
        if state.faults > 0 {
            let changes = state.host.spontaneous_changes().iter();
            events.extend(changes.map(|condition| Event::HostChanges(*condition)));
            if state.artifacts.network.is_some() {
                events.push(Event::ArtifactVanishes(NETWORK));
            }
            if state.artifacts.last.is_some() {
                events.push(Event::ArtifactVanishes(LAST));
            }
        }
    }

    /// Advances the clock, unless a guard is about to kill: killing a command takes
    /// less time than the interval between the end of trust and the end of the lease.
    fn tick(&self, state: &mut State) -> Option<()> {
        let guards_act = !self.rules.has(Defect::NoGuard);
        if guards_act && state.commands.iter().any(|command| command.trusted == 0) {
            return None;
        }
        let ends = !self.rules.has(Defect::LeaseNeverExpires);
        let running = state.owners.iter().any(|owner| owner.trust > 0)
            || state.commands.iter().any(|command| command.trusted > 0);
        let lease_runs = ends && state.lease.is_some();
        if !running && !lease_runs {
            return None;
        }
        if ends && let Some(lease) = &mut state.lease {
            lease.left -= 1;
        }
        state.lease = state.lease.filter(|lease| lease.left > 0);
        for owner in &mut state.owners {
            owner.trust = owner.trust.saturating_sub(1);
        }
        for command in &mut state.commands {
            command.trusted = command.trusted.saturating_sub(1);
        }
        Some(())
    }

    fn apply(&self, state: &mut State, event: Event) -> Option<()> {
        match event {
            Event::SetDesired(desired) => person(state, |row| row.desired = desired),
            Event::ChangeSpec => person(state, |row| row.spec = row.spec.other()),
            Event::TogglePause => {
                state.pauses -= 1;
                state.row = state.row.map(Row::paused_or_resumed);
            }
            Event::Redeclare => {
                state.changes -= 1;
                state.generation += 1;
                state.row = Some(Row::declared(state.generation));
            }
            Event::Proceed(index) => return state.proceed(index, &self.rules),
            Event::Renew(index) => state.renew_beside(index, &self.rules),
            Event::TrustExpired(index) => state.cancel(index, Cancellation::OwnerStops),
            Event::Work(index, work) => self.work(state, index, work),
            Event::GuardKills(index) => {
                let command = state.commands.remove(index);
                state.killed(command.term);
            }
            Event::ReleaseOfEnded => state.lease = None,
            Event::ApplyDelayed => {
                let statement = state.delayed.take()?;
                state.execute(statement, &self.rules);
            }
            Event::Tick => return self.tick(state),
            Event::ComeDue => {
                state.row = state.row.map(Row::come_due);
                for step in state.steps.iter_mut().flatten() {
                    step.next_try = step.next_try.map(|_| false);
                }
            }
            Event::ComeDueBeforeSteps => state.row = state.row.map(Row::come_due),
            Event::LoseRequest(_)
            | Event::LoseAnswer(_)
            | Event::LoseRenewalAnswer(_)
            | Event::SlowClaim(_)
            | Event::FailObservation(_)
            | Event::Crash(_)
            | Event::Shutdown(_)
            | Event::HostChanges(_)
            | Event::ArtifactVanishes(_) => self.fault(state, event),
        }
        Some(())
    }

    fn fault(&self, state: &mut State, event: Event) {
        state.faults -= 1;
        match event {
            Event::LoseRequest(index) => state.owners[index].answer_lost(),
            Event::SlowClaim(index) => {
                if let Some(read) = state.row {
                    state.begin_claim(index, read);
                }
            }
            Event::LoseAnswer(index) => {
                state.delayed = state.owners[index].statement();
                state.owners[index].answer_lost();
            }
            Event::LoseRenewalAnswer(index) => {
                state.delayed = Some(Statement::Renew(state.owners[index].term));
            }
            Event::FailObservation(index) => {
                let found = if self.rules.has(Defect::FailedObservationIsAbsence) {
                    Observed::Absent
                } else {
                    Observed::Unknown
                };
                if matches!(state.owners[index].stage, Stage::ObservingSteps(..)) {
                    state.observe_steps(index, true, &self.rules);
                } else {
                    state.observe(index, found, &self.rules);
                }
            }
            Event::Crash(index) => state.owners[index] = Owner::IDLE,
            Event::Shutdown(index) => state.cancel(index, Cancellation::OwnerStops),
            Event::ArtifactVanishes(index) => state.artifacts.set(index, None),
            Event::HostChanges(condition) => state.host = Host::new(condition, state.host.spec),
            other => unreachable!("{other:?} is not a fault"),
        }
    }

    fn work(&self, state: &mut State, index: usize, work: Work) {
        let command = state.commands[index];
        if !matches!(work, Work::Begin | Work::Finish) {
            state.faults -= 1;
        }
        if !state.holds(command.term) {
            state.note_violation(Violation::StaleEffect);
        }
        state.check_step_started(&command);
        let (host, ended): (Host, Option<CommandResult>) =
            match command.work_on_artifact(work, &mut state.artifacts) {
                Some(ended) => (state.host, ended),
                None => command.work(work, state.host),
            };
        state.host = host;
        match ended {
            None => state.commands[index].phase = Phase::HalfWay,
            Some(ended) => {
                state.commands.remove(index);
                let given_up = work == Work::GiveUp;
                state.ended(&command, ended, given_up, &self.rules);
            }
        }
    }
}

fn person(state: &mut State, change: impl FnOnce(&mut Row)) {
    if let Some(row) = state.row {
        state.changes -= 1;
        state.generation += 1;
        state.row = Some(row.changed(change));
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        State::starts(&self.rules)
    }

    fn actions(&self, state: &State, events: &mut Vec<Event>) {
        // States after a violation add nothing.
        if state.violation.is_some() || state.commands.len() > 1 {
            return;
        }
        Self::person_events(state, events);
        for index in 0..state.owners.len() {
            Self::owner_events(state, index, events);
        }
        for index in 0..state.commands.len() {
            self.command_events(state, index, events);
        }
        self.environment_events(state, events);
    }

    fn next_state(&self, last: &State, event: Event) -> Option<State> {
        let mut state = last.clone();
        self.apply(&mut state, event)?;
        Some(state.canonical(&self.rules))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(&self.rules)
    }
}
