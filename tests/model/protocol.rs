//! All that can happen next, as a `stateright` model.
//!
//! Notifications are not in it: they only hasten a turn, and here a turn may
//! begin whenever a row is due, so every order with and without them is there.

use std::collections::HashMap;
use std::sync::Mutex;

use kindler::clusters::Desired;
use kindler::clusters::plan::Action;
use kindler::core::steps::Requirement;
use stateright::{Model, Property};

use crate::properties;
use crate::row::{Ended, Row, Seen};
use crate::rules::{Defect, Rules};
use crate::run::Way;
use crate::state::{Breach, Cut, Owner, Place, State, Statement};
use crate::steps::{LAST, NETWORK, Record};
use crate::world::{Command, Form, Phase, Work, World};

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A person: a changed desire.
    Want(Desired),
    /// A person: a changed spec.
    Reshape,
    /// A person: paused, or resumed.
    Pause,
    /// A person: the row anew, after it was removed.
    Declare,
    /// An owner's next step; the first of an idle one is the full pass.
    Proceed(usize),
    /// A renewal beside a look or a command.
    Renew(usize),
    /// An owner sees that its trust is over.
    NoticeTrust(usize),
    /// The same step, but its statement never gets to the database.
    LoseRequest(usize),
    /// The same step, but its answer is lost, and its effect comes late.
    LoseAnswer(usize),
    LoseRenewal(usize),
    /// A claim is slow between reading the row and taking the lease.
    ClaimSlowly(usize),
    /// A look fails, comes back empty or cut off.
    LookInVain(usize),
    /// `kill -9`; the replica starts again.
    Crash(usize),
    /// The process is asked to end: it cuts its command short.
    Shutdown(usize),
    /// A command goes on.
    Work(usize, Work),
    /// A guard ends its command.
    Guard(usize),
    /// A statement takes effect whose sender gave up on it.
    Land,
    /// A fifth of a lease goes by.
    Tick,
    /// The row's next attempt or check comes due, and what steps wait for.
    ComeDue,
    /// The row's only: steps wait longer.
    ComeDueBeforeSteps,
    /// The cluster changes by itself.
    Befall(Form),
    /// What a step made vanishes.
    Vanish(usize),
}

pub struct Protocol {
    pub rules: Rules,
    /// Steps to rest, of states that were already followed there.
    pub followed: Mutex<HashMap<u64, u8>>,
}

impl Protocol {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            followed: Mutex::default(),
        }
    }

    /// Whether this command's guard has a reason to end it.
    pub fn must_end(&self, state: &State, command: &Command) -> bool {
        !self.rules.has(Defect::NoGuard)
            && (command.told || command.trusted == 0 || state.is_orphan(command))
    }

    fn of_persons(state: &State, events: &mut Vec<Event>) {
        if state.pauses > 0 && state.row.is_some() {
            events.push(Event::Pause);
        }
        if state.changes == 0 {
            return;
        }
        let Some(row) = state.row else {
            return events.push(Event::Declare);
        };
        let others = Desired::ALL.iter().filter(|d| **d != row.desired);
        events.extend(others.map(|desired| Event::Want(*desired)));
        events.push(Event::Reshape);
    }

    fn of_owner(state: &State, index: usize, events: &mut Vec<Event>) {
        let owner = &state.owners[index];
        let may_fault = state.faults > 0;
        events.push(Event::Proceed(index));
        if owner.place == Place::Idle {
            if may_fault && state.row.is_some_and(|row| row.is_due()) {
                events.push(Event::ClaimSlowly(index));
            }
            return;
        }
        if owner.keeps_its_lease() {
            events.push(Event::Renew(index));
        }
        if owner.watches_its_trust() && owner.trust == 0 {
            events.push(Event::NoticeTrust(index));
        }
        if !may_fault {
            return;
        }
        events.push(Event::Crash(index));
        if owner.statement().is_some() {
            events.push(Event::LoseRequest(index));
        }
        if state.astray.is_none() {
            if owner.statement().is_some() {
                events.push(Event::LoseAnswer(index));
            } else if owner.keeps_its_lease() {
                events.push(Event::LoseRenewal(index));
            }
        }
        match owner.place {
            Place::Looking(_) | Place::Verifying(..) => events.push(Event::LookInVain(index)),
            Place::LookingOn(..) if owner.run.way != Way::Remove => {
                events.push(Event::LookInVain(index));
            }
            Place::Acting(_, _, cut) if cut != Some(Cut::Over) => {
                events.push(Event::Shutdown(index));
            }
            _ => {}
        }
    }

    fn of_command(&self, state: &State, index: usize, events: &mut Vec<Event>) {
        let command = &state.commands[index];
        if self.must_end(state, command) {
            events.push(Event::Guard(index));
        }
        let work = |work| Event::Work(index, work);
        events.push(match command.phase {
            Phase::Begun if command.has_a_middle() => work(Work::Begin),
            Phase::Begun | Phase::HalfWay => work(Work::Finish),
        });
        if state.faults > 0 {
            events.push(work(Work::Fail));
            let observed = command.step.is_some() && self.rules.layout.observable();
            if command.phase == Phase::HalfWay || (observed && !command.has_a_middle()) {
                events.push(work(Work::FinishBadly));
            }
            // Over a cluster that answers, the lie could not be seen; a step that
            // is observed by itself is believed only if it is in place.
            if state.world.form != Form::Healthy && !observed {
                events.push(work(Work::Lie));
            }
            if self.may_give_up(command) {
                events.push(work(Work::GiveUp));
            }
        }
    }

    /// A best-effort removal is given up after some attempts, which are not counted.
    fn may_give_up(&self, command: &Command) -> bool {
        let last = command.step.map(usize::from) == Some(LAST);
        let best_effort = self.rules.layout.requirement(LAST) == Requirement::BestEffort;
        last && best_effort && command.action == Action::Delete
    }

    fn of_the_environment(state: &State, events: &mut Vec<Event>) {
        if state.astray.is_some() {
            events.push(Event::Land);
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
            let befall = state.world.by_itself().iter();
            events.extend(befall.map(|form| Event::Befall(*form)));
            if state.parts.network.is_some() {
                events.push(Event::Vanish(NETWORK));
            }
            if state.parts.last.is_some() {
                events.push(Event::Vanish(LAST));
            }
        }
    }

    /// The clock, unless a guard is about to act: ending a command takes it
    /// less time than lies between the end of trust and the end of the lease.
    fn tick(&self, state: &mut State) -> Option<()> {
        let guards_act = !self.rules.has(Defect::NoGuard);
        if guards_act && state.commands.iter().any(|command| command.trusted == 0) {
            return None;
        }
        let ends = !self.rules.has(Defect::LeaseNeverEnds);
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
            Event::Want(desired) => person(state, |row| row.desired = desired),
            Event::Reshape => person(state, |row| row.spec = row.spec.other()),
            Event::Pause => {
                state.pauses -= 1;
                state.row = state.row.map(Row::paused_or_resumed);
            }
            Event::Declare => {
                state.changes -= 1;
                state.generation += 1;
                state.row = Some(Row::declared(state.generation));
            }
            Event::Proceed(index) => return state.proceed(index, &self.rules),
            Event::Renew(index) => state.renew_beside(index, &self.rules),
            Event::NoticeTrust(index) => state.cut(index, Cut::Over),
            Event::Work(index, work) => self.work(state, index, work),
            Event::Guard(index) => {
                let command = state.commands.remove(index);
                state.killed(command.term);
            }
            Event::Land => {
                let statement = state.astray.take()?;
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
            | Event::LoseRenewal(_)
            | Event::ClaimSlowly(_)
            | Event::LookInVain(_)
            | Event::Crash(_)
            | Event::Shutdown(_)
            | Event::Befall(_)
            | Event::Vanish(_) => self.fault(state, event),
        }
        Some(())
    }

    fn fault(&self, state: &mut State, event: Event) {
        state.faults -= 1;
        match event {
            Event::LoseRequest(index) => state.owners[index].hears_nothing(),
            Event::ClaimSlowly(index) => {
                if let Some(read) = state.row {
                    state.begins_to_claim(index, read);
                }
            }
            Event::LoseAnswer(index) => {
                state.astray = state.owners[index].statement();
                state.owners[index].hears_nothing();
            }
            Event::LoseRenewal(index) => {
                state.astray = Some(Statement::Renew(state.owners[index].term));
            }
            Event::LookInVain(index) => {
                let found = if self.rules.has(Defect::IgnoranceIsAbsence) {
                    Seen::Absent
                } else {
                    Seen::Nothing
                };
                if matches!(state.owners[index].place, Place::LookingOn(..)) {
                    state.look_on(index, true, &self.rules);
                } else {
                    state.look(index, found, &self.rules);
                }
            }
            Event::Crash(index) => state.owners[index] = Owner::IDLE,
            Event::Shutdown(index) => state.cut(index, Cut::Over),
            Event::Vanish(index) => state.parts.set(index, None),
            Event::Befall(form) => state.world = World::new(form, state.world.of),
            other => unreachable!("{other:?} is no fault"),
        }
    }

    fn work(&self, state: &mut State, index: usize, work: Work) {
        let command = state.commands[index];
        if !matches!(work, Work::Begin | Work::Finish) {
            state.faults -= 1;
        }
        if !state.holds(command.term) {
            state.breach(Breach::StaleEffect);
        }
        state.judge_record(&command);
        let (world, ended): (World, Option<Ended>) =
            match command.work_on_part(work, &mut state.parts) {
                Some(ended) => (state.world, ended),
                None => command.work(work, state.world),
            };
        state.world = world;
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
        // What comes after a breach shows nothing more.
        if state.breach.is_some() || state.commands.len() > 1 {
            return;
        }
        Self::of_persons(state, events);
        for index in 0..state.owners.len() {
            Self::of_owner(state, index, events);
        }
        for index in 0..state.commands.len() {
            self.of_command(state, index, events);
        }
        Self::of_the_environment(state, events);
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
