//! The work queue: which keys run, and when. Pure: time is an argument.
//!
//! **A key never runs twice at the same time.** While it waits, the earliest time wins.
//! A wake-up while it runs makes it run once more. The queue is bounded: it refuses a
//! key if it is full, and the caller must find that key again (the controller makes a
//! full pass).
//!
//! Two lanes keep a backlog from delaying a person: a row that just changed
//! ([`Lane::Urgent`]) starts first, but every fourth start belongs to the routine lane.
//! The urgent lane is short and always accepts the newest wake-up: when ten thousand
//! rows change at once, the oldest wake-ups move to the routine lane, so that the next
//! single change does not wait behind all of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// A row's key, cheap to clone.
pub type Key = Arc<str>;

/// Every so many starts, the routine lane goes first although urgent keys wait.
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
    Refused,
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
            running: 0,
            order: 0,
            starts: 0,
        }
    }

    /// How many keys wait.
    pub fn waiting(&self) -> usize {
        self.urgent.len() + self.routine.len()
    }

    /// How many keys wait and are due.
    pub fn ready(&self, now: Instant) -> usize {
        let due = |lane: &BTreeSet<(Instant, u64, Key)>| {
            lane.iter().take_while(|(due, _, _)| *due <= now).count()
        };
        due(&self.urgent) + due(&self.routine)
    }

    /// How many keys run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// How many more keys may wait.
    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.waiting())
    }

    /// Whether a key runs now.
    pub fn is_running(&self, key: &str) -> bool {
        matches!(self.slots.get(key), Some(Slot::Running { .. }))
    }

    /// Queues `key` to start at `due` or later.
    pub fn offer(&mut self, key: &Key, due: Instant, lane: Lane) -> Offered {
        let full = self.room() == 0;
        match self.slots.get_mut(key) {
            Some(Slot::Running { again }) => {
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
                if due < *before || lane < *was {
                    let (before, was, order) = (*before, *was, *order);
                    self.lane(was).remove(&(before, order, key.clone()));
                    self.insert(key.clone(), before.min(due), was.min(lane), order);
                }
                Offered::Merged
            }
            None => {
                let displaced = if full { self.displace(due, lane) } else { None };
                if full && displaced.is_none() {
                    return Offered::Refused;
                }
                self.order += 1;
                self.insert(key.clone(), due, lane, self.order);
                displaced.map_or(Offered::Added, Offered::Displaced)
            }
        }
    }

    /// Makes room in a full queue for an urgent key, or for one that is due before the
    /// last: keys that are due later must not keep it out.
    fn displace(&mut self, due: Instant, lane: Lane) -> Option<Key> {
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
        if self.running >= self.concurrency {
            return None;
        }
        let due = |lane: &BTreeSet<(Instant, u64, Key)>| {
            lane.first().is_some_and(|(due, _, _)| *due <= now)
        };
        let lane = match (due(&self.urgent), due(&self.routine)) {
            (false, false) => return None,
            (true, false) => Lane::Urgent,
            (false, true) => Lane::Routine,
            (true, true) if self.starts % ROUTINE_SHARE == ROUTINE_SHARE - 1 => Lane::Routine,
            (true, true) => Lane::Urgent,
        };
        self.starts = self.starts.wrapping_add(1);
        let (due, _, key) = self.lane(lane).pop_first()?;
        self.slots
            .insert(key.clone(), Slot::Running { again: None });
        self.running += 1;
        Some(Start { key, due, lane })
    }

    /// Ends the run of a key. It waits again if it was woken meanwhile, or until `next`.
    /// A key that just ended is never refused.
    pub fn finish(&mut self, key: &Key, next: Option<Instant>) {
        let Some(Slot::Running { again }) = self.slots.remove(key) else {
            debug_assert!(false, "{key} did not run");
            return;
        };
        self.running -= 1;
        let due = match (again, next) {
            (None, None) => return,
            (Some((at, lane)), Some(next)) => (at.min(next), lane),
            (Some(again), None) => again,
            (None, Some(next)) => (next, Lane::Routine),
        };
        self.order += 1;
        self.insert(key.clone(), due.0, due.1, self.order);
    }

    /// When the next waiting key becomes due.
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
        if self.urgent.len() > URGENT_PLACES
            && let Some((due, order, oldest)) = self.urgent.pop_first()
        {
            self.insert(oldest, due, Lane::Routine, order);
        }
    }

    fn lane(&mut self, lane: Lane) -> &mut BTreeSet<(Instant, u64, Key)> {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Routine => &mut self.routine,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;

    fn key(name: &str) -> Key {
        Key::from(name)
    }

    fn start(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.take(now).map(|start| start.key.to_string())
    }

    #[test]
    fn while_waiting_the_earliest_time_wins() {
        let now = Instant::now();
        let mut queue = Queue::new(10, 1);
        let later = now + Duration::from_secs(60);
        assert_eq!(queue.offer(&key("a"), later, Lane::Routine), Offered::Added);
        assert_eq!(queue.offer(&key("a"), now, Lane::Routine), Offered::Merged);
        assert_eq!(
            queue.offer(&key("a"), later, Lane::Routine),
            Offered::Merged
        );
        assert_eq!(queue.next_due(), Some(now));
        assert_eq!(queue.waiting(), 1);
    }

    #[test]
    fn while_running_a_wake_up_is_remembered_once() {
        let now = Instant::now();
        let mut queue = Queue::new(10, 2);
        queue.offer(&key("a"), now, Lane::Urgent);
        assert_eq!(start(&mut queue, now).as_deref(), Some("a"));
        for _ in 0..3 {
            assert_eq!(queue.offer(&key("a"), now, Lane::Urgent), Offered::Running);
        }
        assert_eq!(start(&mut queue, now), None, "never twice at once");
        queue.finish(&key("a"), Some(now + Duration::from_secs(60)));
        assert_eq!(start(&mut queue, now).as_deref(), Some("a"));
        queue.finish(&key("a"), None);
        assert_eq!((queue.waiting(), queue.running()), (0, 0));
    }

    #[test]
    fn a_requeue_waits_for_its_time() {
        let now = Instant::now();
        let mut queue = Queue::new(10, 1);
        queue.offer(&key("a"), now, Lane::Urgent);
        queue.take(now).unwrap();
        let retry = now + Duration::from_secs(5);
        queue.finish(&key("a"), Some(retry));
        assert_eq!(queue.take(now), None);
        assert_eq!(
            queue.take(retry).unwrap(),
            Start {
                key: key("a"),
                due: retry,
                lane: Lane::Routine
            }
        );
    }

    #[test]
    fn a_full_queue_refuses_new_keys() {
        let now = Instant::now();
        let mut queue = Queue::new(2, 1);
        queue.offer(&key("a"), now, Lane::Urgent);
        queue.offer(&key("b"), now, Lane::Urgent);
        assert_eq!(queue.offer(&key("c"), now, Lane::Routine), Offered::Refused);
        assert_eq!(queue.offer(&key("b"), now, Lane::Urgent), Offered::Merged);
        queue.take(now).unwrap();
        assert_eq!(queue.offer(&key("c"), now, Lane::Urgent), Offered::Added);
    }

    #[test]
    fn urgent_and_routine_keys_share_the_starts() {
        let now = Instant::now();
        let mut queue = Queue::new(1000, 1);
        for n in 0..URGENT_PLACES {
            queue.offer(&key(&format!("routine-{n}")), now, Lane::Routine);
            queue.offer(&key(&format!("urgent-{n}")), now, Lane::Urgent);
        }
        let mut order = Vec::new();
        for _ in 0..8 {
            let started = queue.take(now).unwrap();
            order.push(started.key.to_string());
            queue.finish(&started.key, None);
        }
        assert_eq!(order[0], "urgent-0");
        assert_eq!(
            order
                .iter()
                .filter(|key| key.starts_with("routine"))
                .count(),
            2
        );
    }

    #[test]
    fn a_single_change_starts_soon_after_a_flood() {
        let now = Instant::now();
        let mut queue = Queue::new(1000, 1);
        for n in 0..10_000 {
            queue.offer(&key(&format!("bulk-{n}")), now, Lane::Urgent);
        }
        assert!(queue.waiting() <= 1000);
        let single = key("single");
        let offered = queue.offer(&single, now, Lane::Urgent);
        assert!(matches!(offered, Offered::Displaced(_)), "{offered:?}");
        let starts = std::iter::from_fn(|| {
            let started = queue.take(now)?;
            queue.finish(&started.key, None);
            Some(started.key)
        });
        let ahead = starts.take_while(|key| *key != single).count();
        assert!(ahead <= 2 * URGENT_PLACES, "{ahead} came first");
    }

    #[test]
    fn a_due_key_displaces_one_that_is_due_later() {
        let now = Instant::now();
        let mut queue = Queue::new(100, 1);
        for n in 0..100 {
            let later = now + Duration::from_secs(60 + n);
            queue.offer(&key(&format!("check-{n}")), later, Lane::Routine);
        }
        let offered = queue.offer(&key("due"), now, Lane::Routine);
        assert_eq!(offered, Offered::Displaced(key("check-99")));
        assert_eq!(start(&mut queue, now).as_deref(), Some("due"));
    }

    #[derive(Clone, Debug)]
    enum QueueCall {
        Offer(u8, u64, bool),
        Take,
        Finish(u8, Option<u64>),
        Wait(u64),
    }

    fn any_call() -> impl proptest::strategy::Strategy<Value = QueueCall> {
        use proptest::prelude::*;
        prop_oneof![
            (0u8..6, 0u64..20, any::<bool>()).prop_map(|(k, d, u)| QueueCall::Offer(k, d, u)),
            Just(QueueCall::Take),
            (0u8..6, proptest::option::of(0u64..20)).prop_map(|(k, d)| QueueCall::Finish(k, d)),
            (0u64..10).prop_map(QueueCall::Wait),
        ]
    }

    proptest::proptest! {
        #[test]
        fn no_key_runs_twice_or_is_lost_and_bounds_hold(
            steps in proptest::collection::vec(any_call(), 0..200),
        ) {
            let mut now = Instant::now();
            let mut queue = Queue::new(4, 2);
            let mut running: HashSet<Key> = HashSet::new();
            let mut waiting: HashSet<Key> = HashSet::new();
            for step in steps {
                match step {
                    QueueCall::Offer(k, delay, urgent) => {
                        let lane = if urgent { Lane::Urgent } else { Lane::Routine };
                        let key = key(&k.to_string());
                        let due = now + Duration::from_secs(delay);
                        match queue.offer(&key, due, lane) {
                            Offered::Refused => {}
                            Offered::Displaced(other) => {
                                waiting.remove(&other);
                                waiting.insert(key);
                            }
                            Offered::Added | Offered::Merged | Offered::Running => {
                                waiting.insert(key);
                            }
                        }
                    }
                    QueueCall::Take => if let Some(started) = queue.take(now) {
                        proptest::prop_assert!(started.due <= now);
                        proptest::prop_assert!(running.insert(started.key.clone()), "twice");
                        waiting.remove(&started.key);
                    },
                    QueueCall::Finish(k, next) => {
                        let key = key(&k.to_string());
                        if running.remove(&key) {
                            if next.is_some() { waiting.insert(key.clone()); }
                            queue.finish(&key, next.map(|d| now + Duration::from_secs(d)));
                        }
                    }
                    QueueCall::Wait(seconds) => now += Duration::from_secs(seconds),
                }
                proptest::prop_assert!(queue.running() == running.len() && running.len() <= 2);
            }
            let end = now + Duration::from_secs(3600);
            for key in running { queue.finish(&key, None); }
            while let Some(started) = queue.take(end) {
                waiting.remove(&started.key);
                queue.finish(&started.key, None);
            }
            proptest::prop_assert!(waiting.is_empty(), "lost {waiting:?}");
        }
    }
}
