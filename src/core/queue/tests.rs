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
fn a_full_queue_rejects_new_keys() {
    let now = Instant::now();
    let mut queue = Queue::new(2, 1);
    queue.offer(&key("a"), now, Lane::Urgent);
    queue.offer(&key("b"), now, Lane::Urgent);
    assert_eq!(
        queue.offer(&key("c"), now, Lane::Routine),
        Offered::Rejected
    );
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
                        Offered::Rejected => {}
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

#[test]
fn keys_for_long_work_wait_apart_and_in_order() {
    let now = Instant::now();
    let mut queue = Queue::new(10, 3);
    for name in ["a", "b", "c"] {
        queue.offer(&key(name), now, Lane::Urgent);
        let due = queue.take(now).unwrap().due;
        queue.finish_long(&key(name), due, Lane::Routine);
    }
    assert_eq!(
        (queue.waiting(), queue.ready(now), queue.running()),
        (3, 3, 0)
    );
    assert_eq!((queue.take(now), queue.next_due()), (None, None));
    assert_eq!(queue.next_long_due(), Some(now));
    // A full pass does not move it, a change of the row does.
    assert_eq!(queue.offer(&key("a"), now, Lane::Routine), Offered::Merged);
    assert_eq!(start(&mut queue, now), None);
    assert_eq!(queue.offer(&key("b"), now, Lane::Urgent), Offered::Merged);
    assert_eq!(start(&mut queue, now).as_deref(), Some("b"));
    let long = |queue: &mut Queue| queue.take_long(now).map(|start| start.key.to_string());
    assert_eq!(long(&mut queue).as_deref(), Some("a"));
    assert_eq!(long(&mut queue).as_deref(), Some("c"));
    assert_eq!(long(&mut queue), None);
}

#[test]
fn a_key_woken_while_it_runs_does_not_wait_for_long_work() {
    let now = Instant::now();
    let mut queue = Queue::new(10, 1);
    queue.offer(&key("a"), now, Lane::Routine);
    queue.take(now).unwrap();
    queue.offer(&key("a"), now, Lane::Urgent);
    queue.finish_long(&key("a"), now, Lane::Routine);
    assert_eq!(start(&mut queue, now).as_deref(), Some("a"));
}

#[test]
fn keys_for_long_work_leave_half_of_the_queue() {
    let now = Instant::now();
    let mut queue = Queue::new(4, 4);
    for name in ["a", "b", "c", "d"] {
        queue.offer(&key(name), now, Lane::Routine);
    }
    while let Some(start) = queue.take(now) {
        queue.finish_long(&start.key, start.due, start.lane);
        if queue.long.len() == 4 {
            break;
        }
    }
    let later = now + Duration::from_secs(1);
    let displaced = Offered::Displaced(key("d"));
    assert_eq!(queue.offer(&key("e"), later, Lane::Routine), displaced);
    let displaced = Offered::Displaced(key("c"));
    assert_eq!(queue.offer(&key("f"), later, Lane::Routine), displaced);
    assert_eq!(
        queue.offer(&key("g"), later, Lane::Routine),
        Offered::Rejected
    );
}

#[test]
fn a_changed_row_waits_for_long_work_before_a_backlog() {
    let now = Instant::now();
    let mut queue = Queue::new(100, 1);
    for n in 0..20 {
        queue.offer(&key(&format!("bulk-{n}")), now, Lane::Routine);
    }
    while queue.ready(now) > queue.long.len() {
        let start = queue.take(now).unwrap();
        queue.finish_long(&start.key, start.due, start.lane);
    }
    queue.offer(&key("single"), now, Lane::Urgent);
    let start = queue.take(now).unwrap();
    queue.finish_long(&start.key, start.due, start.lane);
    assert_eq!(&*queue.take_long(now).unwrap().key, "single");
}
