//! Steps that are right for one cluster and wait for the good of all.
//!
//! What is held back is never dropped and costs no attempt: the row says why,
//! and when it goes on. Pure, like the rest of the plan.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cluster::Cluster;
use crate::event::Reason;

use super::{Moment, Status};

/// Over which deletions are counted.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// A deletion that waits is looked at again after this at the latest: the cap
/// may be another by then, or those before it withdrawn. Long enough that ten
/// thousand that wait cost 33 looks a second.
const LOOK_AT_LATEST: Duration = Duration::from_secs(300);

/// What was begun lately and what waits, seen from one deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletionQueue {
    /// The database's clock when this was read.
    pub now: Timestamp,
    /// Whether this wish was counted before: a retry does no new harm.
    pub counted: bool,
    /// When deletions were begun, oldest first, at least the last minute's.
    pub begun: Vec<Timestamp>,
    /// How many were wanted before this one and still wait.
    pub ahead: usize,
    /// How many wait behind it.
    pub behind: usize,
}

impl DeletionQueue {
    /// When this deletion may begin under the cap, if those before it go first:
    /// each takes the place of the one that was begun `cap` before it, a
    /// minute later.
    fn begins_at(&self, cap: usize) -> Timestamp {
        if cap == 0 || self.counted {
            return self.now;
        }
        let counts = |at: &&Timestamp| self.now.duration_since(**at) < MINUTE;
        let mut begun: Vec<Timestamp> = self.begun.iter().filter(counts).copied().collect();
        let mut mine = self.now;
        for _ in 0..=self.ahead {
            mine = match begun.len().checked_sub(cap) {
                Some(before) => self.now.max(
                    begun[before]
                        .saturating_add(MINUTE)
                        .unwrap_or(Timestamp::MAX),
                ),
                None => self.now,
            };
            begun.push(mine);
        }
        mine
    }
}

/// What a deletion writes first: its intent, or, while the cap is reached,
/// that it waits.
pub fn hold_deletion(
    cluster: &Cluster,
    intent: Status,
    cap: usize,
    queue: &DeletionQueue,
) -> Status {
    let begins = queue.begins_at(cap);
    if begins <= queue.now {
        return intent;
    }
    let moment = Moment {
        now: queue.now,
        jitter: 0.0,
    };
    let seconds = begins.duration_since(queue.now).as_secs_f64().ceil();
    let ahead = match queue.ahead {
        0 => String::new(),
        1 => ", after 1 other".to_owned(),
        n => format!(", after {n} others"),
    };
    Status {
        reason: Reason::DeletionHeld,
        message: format!(
            "its deletion waits: at most {cap} begin within a minute (KINDLER_DELETE_CAP); \
             it goes on in {seconds}s{ahead}"
        ),
        next_attempt_at: Some(begins.min(moment.after(LOOK_AT_LATEST))),
        ..Status::keeping(cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::samples::dev;
    use crate::cluster::{Actual, Desired};
    use crate::plan::{Action, Policy, Step, plan};

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn ago(seconds: i64) -> Timestamp {
        NOW.checked_sub(SignedDuration::from_secs(seconds)).unwrap()
    }

    fn queue(begun: &[i64], ahead: usize) -> DeletionQueue {
        DeletionQueue {
            now: NOW,
            counted: false,
            begun: begun.iter().map(|seconds| ago(*seconds)).collect(),
            ahead,
            behind: 0,
        }
    }

    /// In so many seconds.
    fn waits(queue: &DeletionQueue, cap: usize) -> i64 {
        queue.begins_at(cap).duration_since(NOW).as_secs()
    }

    #[test]
    fn a_place_is_free_a_minute_after_it_was_taken() {
        assert_eq!(waits(&queue(&[50, 40], 0), 3), 0);
        assert_eq!(waits(&queue(&[50, 40, 5], 0), 3), 10);
        assert_eq!(
            waits(&queue(&[61, 60, 59, 5], 0), 3),
            0,
            "two are too old to count"
        );
        assert_eq!(waits(&queue(&[50, 40, 5], 0), 0), 0, "0 is no cap");
        assert_eq!(
            waits(&queue(&[50, 40, 5, 4, 3], 0), 3),
            55,
            "the cap was lowered"
        );
    }

    #[test]
    fn nobody_overtakes_those_that_wait() {
        assert_eq!(
            waits(&queue(&[50], 1), 2),
            10,
            "the free place is another's"
        );
        assert_eq!(waits(&queue(&[50, 40, 5], 2), 3), 55);
        assert_eq!(waits(&queue(&[50, 40, 5], 3), 3), 70, "the second round");
        assert_eq!(waits(&queue(&[], 7), 3), 120);
    }

    #[test]
    fn a_deletion_that_was_counted_goes_on() {
        let retried = DeletionQueue {
            counted: true,
            ..queue(&[3, 2, 1], 5)
        };
        assert_eq!(waits(&retried, 3), 0);
    }

    proptest::proptest! {
        /// However they come, no minute sees more than the cap.
        #[test]
        fn no_minute_ever_sees_more_than_the_cap(
            cap in 1usize..6, arrivals in proptest::collection::vec(0i64..200, 1..40),
        ) {
            let mut arrivals = arrivals;
            arrivals.sort_unstable();
            let mut begun: Vec<Timestamp> = Vec::new();
            for seconds in arrivals {
                let now = ago(-seconds);
                let seen = DeletionQueue { now, begun: begun.clone(), ..queue(&[], 0) };
                if seen.begins_at(cap) <= now {
                    begun.push(now);
                }
            }
            for (n, at) in begun.iter().enumerate() {
                let within = begun[..=n].iter().filter(|other| at.duration_since(**other) < MINUTE);
                proptest::prop_assert!(within.count() <= cap);
            }
        }
    }

    #[test]
    fn what_waits_says_why_and_until_when_and_spends_no_attempt() {
        let mut cluster = dev().recorded(Actual::Failed).wanted(Desired::Absent);
        cluster.failed_attempts = 2;
        let moment = Moment {
            now: NOW,
            jitter: 0.0,
        };
        let Step::Act {
            action: Action::Delete,
            intent,
        } = plan(&cluster, None, &Policy::default(), moment)
        else {
            panic!("its delete is due")
        };
        assert_eq!(
            hold_deletion(&cluster, intent.clone(), 2, &queue(&[50], 0)),
            intent
        );
        let held = hold_deletion(&cluster, intent, 2, &queue(&[50, 40], 1));
        assert_eq!((held.actual, held.failed_attempts), (Actual::Failed, 2));
        assert_eq!(held.reason, Reason::DeletionHeld);
        assert_eq!(held.next_attempt_at, Some(ago(-20)));
        assert!(
            held.message.ends_with("it goes on in 20s, after 1 other"),
            "{}",
            held.message
        );
        held.apply_to(&mut cluster, NOW);
        assert_eq!(
            plan(&cluster, None, &Policy::default(), moment),
            Step::Rest { until: ago(-20) }
        );
    }
}
