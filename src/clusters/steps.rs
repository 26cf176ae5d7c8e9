//! The progress of an action, computed from the recorded steps of the driver.

use crate::core::steps::{StepRecord, StepState};

use super::{Actual, Cluster, Desired};

/// The progress of the driver that last worked on a cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepProgress<'a> {
    /// How many steps the driver has.
    pub total: usize,
    /// How many are done; during a delete, how many are removed.
    pub done: usize,
    /// The running step.
    pub current: Option<&'a StepRecord>,
}

impl<'a> StepProgress<'a> {
    /// The progress of a cluster with these records; none if there are no records, or if
    /// the cluster is being stopped, which removes only a part of its steps.
    pub fn of(cluster: &Cluster, records: &'a [StepRecord]) -> Option<Self> {
        if cluster.desired == Desired::Stopped || cluster.actual == Actual::Stopping {
            return None;
        }
        let last = records.iter().max_by_key(|record| record.started_at)?;
        let steps = || records.iter().filter(|r| r.driver == last.driver);
        // A failed delete also goes backward.
        let deleting = cluster.desired == Desired::Absent || cluster.actual == Actual::Deleting;
        let counts = |record: &&StepRecord| match record.state {
            StepState::Done => !deleting,
            StepState::Removed => deleting,
            StepState::Skipped => true,
            StepState::Pending | StepState::Running | StepState::Failed | StepState::Removing => {
                false
            }
        };
        let running = |r: &&StepRecord| match r.state {
            StepState::Running => !deleting,
            StepState::Removing => deleting,
            _ => false,
        };
        Some(Self {
            // The last record counts: an earlier release may have had another number of steps.
            total: usize::try_from(last.total).unwrap_or(0).max(1),
            done: steps().filter(counts).count(),
            current: steps()
                .filter(running)
                .max_by_key(|r| r.started_at)
                .filter(|_| cluster.actual.is_transitional()),
        })
    }

    /// The running step, as in "step 3 of 5: process"; none for a driver with one step,
    /// because the state of the cluster says the same.
    pub fn sentence(&self) -> Option<String> {
        let step = self.current.filter(|_| self.total > 1)?;
        let (position, total, name) = (step.position, step.total, &step.name);
        Some(format!("step {position} of {total}: {name}"))
    }

    /// The percentage of steps that are done, 0 to 99, because the result is not verified
    /// yet. None for a driver with one step.
    pub fn percent(&self) -> Option<u8> {
        let done = self.done.checked_mul(100)?.checked_div(self.total)?;
        let percent = u8::try_from(done.min(99)).ok()?;
        (self.total > 1).then_some(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusters::samples::dev;
    use jiff::Timestamp;

    fn step(name: &str, position: i32, total: i32, state: StepState) -> StepRecord {
        StepRecord {
            driver: "sandbox".into(),
            name: name.into(),
            position,
            total,
            version: 1,
            required: true,
            state,
            attempt: 1,
            reason: None,
            message: None,
            input_hash: None,
            started_at: Timestamp::from_second(i64::from(position)).ok(),
            finished_at: None,
            next_try_at: None,
        }
    }

    fn shown(actual: Actual, records: &[StepRecord]) -> (Option<u8>, Option<String>) {
        let desired = match actual {
            Actual::Deleting => Desired::Absent,
            _ => Desired::Present,
        };
        let cluster = dev().wanted(desired).recorded(actual);
        let progress = StepProgress::of(&cluster, records);
        progress.map_or((None, None), |p| (p.percent(), p.sentence()))
    }

    #[test]
    fn progress_is_the_share_of_done_steps() {
        use StepState::{Done, Failed, Removed, Removing, Running};
        let sentence = |text: &str| Some(text.to_owned());
        let running = [step("folder", 1, 3, Done), step("port", 2, 3, Running)];
        assert_eq!(
            shown(Actual::Creating, &running),
            (Some(33), sentence("step 2 of 3: port"))
        );
        // Its daemon crashed, and another one recorded the failure.
        assert_eq!(shown(Actual::Failed, &running), (Some(33), None));
        let failed = [step("folder", 1, 3, Done), step("port", 2, 3, Failed)];
        assert_eq!(shown(Actual::Failed, &failed), (Some(33), None));
        let all = [step("folder", 1, 2, Done), step("port", 2, 2, Done)];
        assert_eq!(shown(Actual::Creating, &all), (Some(99), None));
        let back = [step("folder", 1, 2, Removing), step("port", 2, 2, Removed)];
        assert_eq!(
            shown(Actual::Deleting, &back),
            (Some(50), sentence("step 1 of 2: folder"))
        );
        assert_eq!(shown(Actual::Deleting, &all), (Some(0), None));
        assert_eq!(shown(Actual::Stopping, &all), (None, None));
        let failed = dev().wanted(Desired::Absent).recorded(Actual::Failed);
        let back = [step("folder", 1, 2, Failed), step("port", 2, 2, Removed)];
        assert_eq!(
            StepProgress::of(&failed, &back).unwrap().percent(),
            Some(50)
        );
    }

    #[test]
    fn one_step_or_none_has_no_progress() {
        let one = [step("create_env.sh", 1, 1, StepState::Running)];
        assert_eq!(shown(Actual::Creating, &one), (None, None));
        assert_eq!(StepProgress::of(&dev(), &[]), None);
    }

    #[test]
    fn steps_of_an_earlier_driver_do_not_count() {
        let earlier = StepRecord {
            driver: "script".into(),
            started_at: None,
            ..step("create_env.sh", 1, 1, StepState::Done)
        };
        let now = step("folder", 1, 4, StepState::Running);
        let progress = [earlier, now];
        assert_eq!(shown(Actual::Creating, &progress).0, Some(0));
    }
}
