//! The work queue: which keys run, and when. Pure: time is an argument.
//!
//! **A key never runs twice at the same time.** While it waits, the earliest time wins.
//! A wake-up while it runs makes it run once more. The queue is bounded: it rejects a
//! key if it is full, and the caller must find that key again (the controller makes a
//! full pass).
//!
//! Two lanes, so that a person does not wait behind a backlog: a row that just changed
//! ([`Lane::Urgent`]) starts first, but every fourth start belongs to the routine lane.
//! The urgent lane is short and always accepts the newest wake-up: when ten thousand
//! rows change at once, the oldest wake-ups move to the routine lane, so that the next
//! single change does not wait behind all of them.
//!
//! A key whose reconcile found that it needs long work, while all places for that are taken,
//! waits in a lane of its own ([`Lane::Long`]), so that it keeps no worker from the others.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// A row's key, cheap to clone.
pub type Key = Arc<str>;

/// Number of starts after which the routine lane goes first although urgent keys wait.
const ROUTINE_SHARE: u32 = 4;

/// How many keys the urgent lane holds.
const URGENT_PLACES: usize = 16;

/// Why a key is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The row was just changed.
    Urgent,
    /// A retry, a check that is due, or a row that a full pass found.
    Routine,
    /// It waits for a place for long work, and its row was just changed.
    UrgentLong,
    /// It waits for a place for long work.
    Long,
}

impl Lane {
    fn is_long(self) -> bool {
        matches!(self, Self::UrgentLong | Self::Long)
    }
}

/// The answer to an offered key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits.
    Added,
    /// It waits, and this key, which was due last, was dropped for it and must be
    /// found again.
    Displaced(Key),
    /// It was waiting already; the earlier time counts.
    Merged,
    /// It runs now, and will run once more.
    Running,
    /// The queue is full.
    Rejected,
}

/// A key that starts now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The key.
    pub key: Key,
    /// When it became due.
    pub due: Instant,
    /// The lane that it waited in.
    pub lane: Lane,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Waiting {
        due: Instant,
        lane: Lane,
        order: u64,
    },
    Running {
        again: Option<(Instant, Lane)>,
        /// Whether it occupies a worker.
        works: bool,
    },
}

/// The queue; see the module's comment.
#[derive(Debug)]
pub struct Queue {
    // inputs
    capacity: usize,
    concurrency: usize,
    // internal state: the sets order the waiting keys of `slots`
    slots: HashMap<Key, Slot>,
    urgent: BTreeSet<(Instant, u64, Key)>,
    routine: BTreeSet<(Instant, u64, Key)>,
    urgent_long: BTreeSet<(Instant, u64, Key)>,
    long: BTreeSet<(Instant, u64, Key)>,
    running: usize,
    order: u64,
    starts: u32,
}

impl Queue {
    /// An empty queue for at most `capacity` waiting and `concurrency` running keys.
    pub fn new(capacity: usize, concurrency: usize) -> Self {
        Self {
            capacity,
            concurrency,
            slots: HashMap::new(),
            urgent: BTreeSet::new(),
            routine: BTreeSet::new(),
            urgent_long: BTreeSet::new(),
            long: BTreeSet::new(),
            running: 0,
            order: 0,
            starts: 0,
        }
    }

    /// How many keys wait.
    pub fn waiting(&self) -> usize {
        self.urgent.len() + self.routine.len() + self.urgent_long.len() + self.long.len()
    }

    /// How many keys wait and are due.
    pub fn ready(&self, now: Instant) -> usize {
        let due = |lane: &BTreeSet<(Instant, u64, Key)>| {
            lane.iter().take_while(|(due, _, _)| *due <= now).count()
        };
        due(&self.urgent) + due(&self.routine) + due(&self.urgent_long) + due(&self.long)
    }

    /// How many of them wait for a place for long work.
    pub fn ready_long(&self, now: Instant) -> usize {
        let due = |lane: &BTreeSet<(Instant, u64, Key)>| {
            lane.iter().take_while(|(due, _, _)| *due <= now).count()
        };
        due(&self.urgent_long) + due(&self.long)
    }

    /// The keys that are due, in the order in which they start, at most `limit`.
    pub fn next(&self, now: Instant, limit: usize) -> Vec<Key> {
        let due = |lane: &'_ BTreeSet<(Instant, u64, Key)>| {
            let due = lane.iter().take_while(|(due, _, _)| *due <= now);
            let keys: Vec<Key> = due.take(limit).map(|(_, _, key)| key.clone()).collect();
            keys.into_iter().peekable()
        };
        // They have had their turn, and wait for a place only.
        let long = due(&self.urgent_long).chain(due(&self.long));
        let (mut urgent, mut routine) = (due(&self.urgent), due(&self.routine));
        let mut starts = self.starts;
        let next = std::iter::from_fn(|| {
            let routine_first = starts % ROUTINE_SHARE == ROUTINE_SHARE - 1;
            starts = starts.wrapping_add(1);
            match (routine_first, urgent.peek()) {
                (true, _) => routine.next().or_else(|| urgent.next()),
                (false, Some(_)) => urgent.next(),
                (false, None) => routine.next(),
            }
        });
        long.chain(next).take(limit).collect()
    }

    /// How many running keys occupy a worker.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Whether one more key may run.
    pub fn has_free_worker(&self) -> bool {
        self.running < self.concurrency
    }

    /// Frees the worker of a running key, which runs on without.
    pub fn lend_worker(&mut self, key: &Key) {
        if let Some(Slot::Running { works, .. }) = self.slots.get_mut(key)
            && std::mem::replace(works, false)
        {
            self.running -= 1;
        }
    }

    /// Gives a running key a worker again.
    pub fn return_worker(&mut self, key: &Key) {
        if let Some(Slot::Running { works, .. }) = self.slots.get_mut(key)
            && !std::mem::replace(works, true)
        {
            self.running += 1;
        }
    }

    /// How many more keys may wait.
    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.waiting())
    }

    /// Queues `key` to start at `due` or later.
    pub fn offer(&mut self, key: &Key, due: Instant, lane: Lane) -> Offered {
        let full = self.room() == 0;
        match self.slots.get_mut(key) {
            Some(Slot::Running { again, .. }) => {
                *again = Some(match *again {
                    Some((earlier, first)) => (earlier.min(due), first.min(lane)),
                    None => (due, lane),
                });
                Offered::Running
            }
            Some(Slot::Waiting {
                due: before,
                lane: was,
                order,
            }) => {
                // A full pass does not know that it needs long work; a changed row may not.
                let waits_for_long = was.is_long() && lane == Lane::Routine;
                if !waits_for_long && (due < *before || lane < *was) {
                    let (before, was, order) = (*before, *was, *order);
                    self.lane(was).remove(&(before, order, key.clone()));
                    self.insert(key.clone(), before.min(due), was.min(lane), order);
                }
                Offered::Merged
            }
            None => {
                let displaced = if full { self.displace(due, lane) } else { None };
                if full && displaced.is_none() {
                    return Offered::Rejected;
                }
                self.order += 1;
                self.insert(key.clone(), due, lane, self.order);
                displaced.map_or(Offered::Added, Offered::Displaced)
            }
        }
    }

    /// Makes room in a full queue for an urgent key, or for one that is due before the
    /// last: keys that are due later must not keep it out. Keys for long work fill at most
    /// half of the queue while others need room.
    fn displace(&mut self, due: Instant, lane: Lane) -> Option<Key> {
        if self.long.len() > self.capacity / 2 {
            let (_, _, last) = self.long.pop_last()?;
            self.slots.remove(&last);
            return Some(last);
        }
        let (last_due, _, _) = self.routine.last()?;
        if lane == Lane::Routine && due >= *last_due {
            return None;
        }
        let (_, _, last) = self.routine.pop_last()?;
        self.slots.remove(&last);
        Some(last)
    }

    /// Takes the next key, if one is due and a worker is free. The caller must
    /// [`finish`](Self::finish) it.
    pub fn take(&mut self, now: Instant) -> Option<Start> {
        self.take_of(Lane::Urgent, Lane::Routine, now)
    }

    /// Takes the next key that waits for a place for long work, if one is due and a worker is
    /// free. The caller has such a place for it.
    pub fn take_long(&mut self, now: Instant) -> Option<Start> {
        self.take_of(Lane::UrgentLong, Lane::Long, now)
    }

    /// Takes the next key of two lanes; every fourth start belongs to the second one.
    fn take_of(&mut self, urgent: Lane, other: Lane, now: Instant) -> Option<Start> {
        if !self.has_free_worker() {
            return None;
        }
        let mut due = |lane| {
            self.lane(lane)
                .first()
                .is_some_and(|(due, _, _)| *due <= now)
        };
        let lane = match (due(urgent), due(other)) {
            (false, false) => return None,
            (true, false) => urgent,
            (false, true) => other,
            (true, true) if self.starts % ROUTINE_SHARE == ROUTINE_SHARE - 1 => other,
            (true, true) => urgent,
        };
        self.starts = self.starts.wrapping_add(1);
        let (due, _, key) = self.lane(lane).pop_first()?;
        let running = Slot::Running {
            again: None,
            works: true,
        };
        self.slots.insert(key.clone(), running);
        self.running += 1;
        Some(Start { key, due, lane })
    }

    /// Ends the run of a key. It waits again if it was woken meanwhile, or until `next`.
    /// A key that just ended is never rejected.
    pub fn finish(&mut self, key: &Key, next: Option<Instant>) {
        let Some(Slot::Running { again, works }) = self.slots.remove(key) else {
            debug_assert!(false, "{key} did not run");
            return;
        };
        self.running -= usize::from(works);
        let due = match (again, next) {
            (None, None) => return,
            (Some((at, lane)), Some(next)) => (at.min(next), lane),
            (Some(again), None) => again,
            (None, Some(next)) => (next, Lane::Routine),
        };
        self.order += 1;
        self.insert(key.clone(), due.0, due.1, self.order);
    }

    /// Ends the run of a key that needs a place for long work: it waits for one, from `due`
    /// on. If it was woken meanwhile it may not need it any more, and runs again first. `lane`:
    /// where it waited before.
    pub fn finish_long(&mut self, key: &Key, due: Instant, lane: Lane) {
        let Some(Slot::Running { again, works }) = self.slots.remove(key) else {
            debug_assert!(false, "{key} did not run");
            return;
        };
        self.running -= usize::from(works);
        self.order += 1;
        let (due, lane) = match again {
            Some((at, Lane::Urgent)) => (at, Lane::Urgent),
            _ if matches!(lane, Lane::Urgent | Lane::UrgentLong) => (due, Lane::UrgentLong),
            _ => (due, Lane::Long),
        };
        self.insert(key.clone(), due, lane, self.order);
    }

    /// When the next key that waits for long work is due.
    pub fn next_long_due(&self) -> Option<Instant> {
        let first = |lane: &BTreeSet<(Instant, u64, Key)>| lane.first().map(|(due, _, _)| *due);
        first(&self.urgent_long)
            .into_iter()
            .chain(first(&self.long))
            .min()
    }

    /// When the next waiting key becomes due, without those that wait for long work.
    pub fn next_due(&self) -> Option<Instant> {
        let first = |lane: &BTreeSet<(Instant, u64, Key)>| lane.first().map(|(due, _, _)| *due);
        first(&self.urgent)
            .into_iter()
            .chain(first(&self.routine))
            .min()
    }

    fn insert(&mut self, key: Key, due: Instant, lane: Lane, order: u64) {
        self.slots
            .insert(key.clone(), Slot::Waiting { due, lane, order });
        self.lane(lane).insert((due, order, key));
        for (urgent, other) in [
            (Lane::Urgent, Lane::Routine),
            (Lane::UrgentLong, Lane::Long),
        ] {
            if self.lane(urgent).len() > URGENT_PLACES
                && let Some((due, order, oldest)) = self.lane(urgent).pop_first()
            {
                self.insert(oldest, due, other, order);
            }
        }
    }

    fn lane(&mut self, lane: Lane) -> &mut BTreeSet<(Instant, u64, Key)> {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Routine => &mut self.routine,
            Lane::UrgentLong => &mut self.urgent_long,
            Lane::Long => &mut self.long,
        }
    }
}

#[cfg(test)]
mod tests;
