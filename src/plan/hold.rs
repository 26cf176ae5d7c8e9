//! Steps that are right for one cluster and wait for the good of all.
//!
//! What is held back is never dropped and costs no attempt: the row says why,
//! and when it goes on. Pure, like the rest of the plan.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cluster::{Actual, Cluster};
use crate::duration;
use crate::event::Reason;
use crate::health::Spread;

use super::{Action, Moment, Policy, Status, Step};

/// Over which deletions are counted.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// A deletion that waits is looked at again after this at the latest: the cap
/// may be another by then, or those before it withdrawn. Long enough that ten
/// thousand that wait cost 33 looks a second.
const LOOK_AT_LATEST: Duration = Duration::from_secs(300);

/// A person who asked for an attempt within this knows what the host is like.
const ASKED_WITHIN: SignedDuration = MINUTE;

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

/// Whether a step repairs, or leads to the repair of, a cluster that ran
/// before. A first creation is none; nor is a start, since only a container
/// runtime that works tells stopped from silent; nor is what a person asked
/// for just now.
pub fn is_repair(cluster: &Cluster, step: &Step, moment: Moment) -> bool {
    let asked = cluster
        .retry_requested_at
        .is_some_and(|at| moment.now.duration_since(at) < ASKED_WITHIN);
    if asked || cluster.hands_off() {
        return false;
    }
    match (step, cluster.actual) {
        (Step::Record(status), Actual::Running) => status.reason == Reason::HealthLost,
        (Step::Act { action, .. }, Actual::Failed | Actual::Creating) => {
            *action == Action::Create && cluster.last_healthy_at.is_some()
        }
        _ => false,
    }
}

/// Keeps a repair waiting while most clusters are silent: it would meet the
/// same host. The cluster stays as it is recorded and is looked at again soon.
/// A running one that could not be looked at says the same, so that one
/// condition is told and not two.
pub fn hold_repair(
    cluster: &Cluster,
    step: Step,
    spread: Option<Spread>,
    policy: &Policy,
    moment: Moment,
) -> Step {
    let Some(Spread { probed, silent }) = spread else {
        return step;
    };
    let (why, error) = match &step {
        Step::Record(status) if is_repair(cluster, &step, moment) || is_blind(cluster, status) => {
            (status.message.clone(), status.error.clone())
        }
        Step::Act { .. } if is_repair(cluster, &step, moment) => {
            ("it failed".to_owned(), cluster.reconcile_error.clone())
        }
        _ => return step,
    };
    let again = moment.after(policy.health.reprobe);
    let held = Status {
        reason: Reason::RepairHeld,
        message: format!(
            "{why}; nothing is repaired while most clusters are silent ({silent} of {probed} \
             looked at lately), because the host is ill then; the next look is in {}",
            duration::compact(policy.health.reprobe)
        ),
        error,
        ..Status::keeping(cluster)
    };
    Step::Record(match cluster.settled() {
        // The count stays one short of lost, so the next look decides again.
        true => Status {
            next_check_at: Some(again),
            ..held
        },
        false => Status {
            next_attempt_at: Some(again),
            ..held
        },
    })
}

fn is_blind(cluster: &Cluster, status: &Status) -> bool {
    cluster.actual == Actual::Running
        && !cluster.hands_off()
        && status.reason == Reason::ObservationFailed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Desired;
    use crate::cluster::samples::dev;
    use crate::observation::Observation;
    use crate::plan::plan;

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

    fn moment() -> Moment {
        Moment {
            now: NOW,
            jitter: 0.0,
        }
    }

    /// The step for what was seen, while most clusters are silent.
    fn held(cluster: &Cluster, seen: &Observation) -> Step {
        let policy = Policy::default();
        let step = plan(cluster, Some(seen), &policy, moment());
        let spread = Spread {
            probed: 6,
            silent: 5,
        };
        assert_eq!(
            hold_repair(cluster, step.clone(), None, &policy, moment()),
            step
        );
        hold_repair(cluster, step, Some(spread), &policy, moment())
    }

    fn once_healthy(actual: Actual) -> Cluster {
        let mut cluster = dev().recorded(actual).applied();
        cluster.last_healthy_at = Some(ago(600));
        cluster
    }

    #[test]
    fn a_lost_cluster_stays_running_until_most_answer() {
        let mut cluster = once_healthy(Actual::Running);
        cluster.health_failures = 2;
        for _ in 0..5 {
            let Step::Record(status) = held(&cluster, &Observation::unhealthy("refused")) else {
                panic!("it is only recorded")
            };
            assert_eq!(
                (status.actual, status.reason),
                (Actual::Running, Reason::RepairHeld)
            );
            assert_eq!(
                (status.health_failures, status.next_check_at),
                (2, Some(ago(-10)))
            );
            for part in [
                "3 probes failed in a row: refused",
                "5 of 6",
                "the next look is in 10s",
            ] {
                assert!(status.message.contains(part), "{}", status.message);
            }
            status.apply_to(&mut cluster, NOW);
            assert_eq!(cluster.due_at(), Some(ago(-10)));
            cluster.next_check_at = None;
        }
        let Step::Record(status) = held(&cluster, &Observation::HEALTHY) else {
            panic!("it answers")
        };
        assert_eq!((status.reason, status.error), (Reason::Healthy, None));
    }

    #[test]
    fn what_failed_is_not_made_again_and_what_never_ran_is_made() {
        for actual in [Actual::Failed, Actual::Creating] {
            for seen in [Observation::Absent, Observation::unhealthy("refused")] {
                let Step::Record(status) = held(&once_healthy(actual), &seen) else {
                    panic!("{actual} {seen} is repaired")
                };
                assert_eq!((status.actual, status.reason), (actual, Reason::RepairHeld));
                assert_eq!(
                    (status.failed_attempts, status.next_attempt_at),
                    (0, Some(ago(-10)))
                );
                let never = dev().recorded(actual);
                assert!(matches!(
                    held(&never, &seen),
                    Step::Act {
                        action: Action::Create,
                        ..
                    }
                ));
            }
        }
        let stopped = held(&once_healthy(Actual::Failed), &Observation::STOPPED);
        assert!(
            matches!(
                stopped,
                Step::Act {
                    action: Action::Start,
                    ..
                }
            ),
            "the runtime answers"
        );
    }

    #[test]
    fn a_person_may_insist_and_a_wish_is_no_repair() {
        let mut cluster = once_healthy(Actual::Failed);
        cluster.retry_requested_at = Some(ago(59));
        assert!(matches!(
            held(&cluster, &Observation::Absent),
            Step::Act { .. }
        ));
        cluster.retry_requested_at = Some(ago(61));
        assert!(matches!(
            held(&cluster, &Observation::Absent),
            Step::Record(_)
        ));
        let leaving = once_healthy(Actual::Failed).wanted(Desired::Absent);
        assert!(matches!(
            held(&leaving, &Observation::Absent),
            Step::Act {
                action: Action::Delete,
                ..
            }
        ));
        let mut changed = once_healthy(Actual::Running);
        changed.spec_applied = false;
        assert!(matches!(
            held(&changed, &Observation::Absent),
            Step::Act {
                action: Action::Update,
                ..
            }
        ));
        let blind = held(
            &once_healthy(Actual::Running),
            &Observation::unknown("docker is down"),
        );
        let Step::Record(status) = blind else {
            panic!("it is only recorded")
        };
        assert_eq!(status.reason, Reason::RepairHeld);
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
