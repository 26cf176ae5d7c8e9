//! Counts how often a running cluster recovers or is lost. A cluster that flaps is not failed,
//! but a person must find the cause. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::clusters::Cluster;
use crate::clusters::event::Reason;
use crate::clusters::plan::Status;

/// Two changes that are further apart do not belong together.
const APART: SignedDuration = SignedDuration::from_hours(1);

/// From so many changes on a cluster flaps.
const MANY: u32 = 3;

/// The recoveries and losses of a cluster, each within an hour of the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaps {
    /// How many.
    pub count: u32,
    /// When the last one was.
    pub last: Option<Timestamp>,
}

impl Flaps {
    /// Those of a cluster.
    pub fn of(cluster: &Cluster) -> Self {
        cluster.flaps
    }

    /// Whether they are so many that the cluster flaps.
    pub fn are_many(self) -> bool {
        self.count >= MANY
    }

    /// The count after a check that found a change or not.
    pub fn after(self, changed: bool, now: Timestamp) -> Self {
        let recent = self.last.is_some_and(|at| now.duration_since(at) < APART);
        let before = if recent { self } else { Self::default() };
        if !changed {
            return before;
        }
        Self {
            count: before.count.saturating_add(1),
            last: Some(now),
        }
    }

    /// Mentions in the status of a running cluster that it flaps.
    pub fn mention(self, status: Status) -> Status {
        if !self.are_many() {
            return status;
        }
        Status {
            reason: Reason::Flapping,
            message: format!(
                "{}; flapping: {} recoveries and losses, each within an hour of the one before",
                status.message, self.count
            ),
            ..status
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn at(minutes: i64) -> Timestamp {
        NOW.checked_add(SignedDuration::from_mins(minutes)).unwrap()
    }

    #[test]
    fn the_third_change_within_an_hour_each_is_flapping() {
        let mut flaps = Flaps::default();
        for minutes in [0, 50, 100] {
            assert!(!flaps.are_many());
            flaps = flaps.after(true, at(minutes));
        }
        assert!(flaps.are_many());
        assert_eq!(flaps.after(false, at(159)), flaps, "not over yet");
        assert_eq!(flaps.after(false, at(160)), Flaps::default());
        assert_eq!(flaps.after(true, at(160)).count, 1, "a new series");
    }
}
