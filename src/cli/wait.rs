//! Waits until a cluster is as declared. It polls the row, which is the source of
//! truth, whichever daemon reconciles it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use crate::clusters::event::Reason;
use crate::clusters::{Actual, Cluster, ClusterName, Desired, StepProgress, Waiting};
use crate::command::{LogDir, LogOwner, tail};
use crate::core::database::DatabaseError;
use crate::store::FleetView;

use super::error::CliError;
use super::outcome::Exit;
use super::progress::ProgressLine;
use super::screen::{Screen, write_out};
use super::session::CliSession;
use super::text;
use crate::cause::chain;

/// Time between two reads of the row.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// Time before it checks whether a daemon works on the cluster.
const CHECK_DAEMONS_AFTER: Duration = Duration::from_secs(3);

/// How long a last look at the daemons may take.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// The state to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    /// The row; a later row of the name does not count.
    uid: Uuid,
    desired: Desired,
    /// A status must have been written after this one.
    after: Option<Option<Timestamp>>,
}

impl Goal {
    /// The declared state of this row.
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self {
            uid: cluster.uid,
            desired: cluster.desired,
            after: None,
        }
    }

    /// The declared state, observed after the retry that returned this row.
    pub(super) fn after_retry(cluster: &Cluster) -> Self {
        Self {
            uid: cluster.uid,
            desired: cluster.desired,
            after: Some(cluster.last_reconciled_at),
        }
    }

    fn judge(&self, row: Option<&Cluster>) -> GoalState {
        match row.filter(|row| row.uid == self.uid) {
            None if self.desired == Desired::Absent => GoalState::Reached,
            None => GoalState::OutOfReach("its row was removed".to_owned()),
            Some(cluster) if cluster.desired != self.desired => {
                GoalState::OutOfReach(format!("it was declared {} meanwhile", cluster.desired))
            }
            Some(cluster) if cluster.has_reason(Reason::NeedsRecreation) => {
                let why = cluster.status_message.clone();
                GoalState::OutOfReach(why.unwrap_or_default())
            }
            Some(cluster) => {
                let observed = self
                    .after
                    .is_none_or(|before| before != cluster.last_reconciled_at);
                if cluster.settled() && observed {
                    GoalState::Reached
                } else {
                    GoalState::NotYet
                }
            }
        }
    }
}

/// How far the row is from the goal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum GoalState {
    Reached,
    NotYet,
    OutOfReach(String),
}

/// Waits for a goal and shows progress on stderr. It also waits while the
/// database is unreachable.
pub(super) async fn wait(
    session: &CliSession,
    screen: &Screen,
    name: &ClusterName,
    goal: Goal,
    limit: Duration,
) -> Result<Exit, CliError> {
    let started = Instant::now();
    let deadline = started + limit;
    let mut watch = ClusterWatch {
        session,
        name,
        progress: ProgressLine::new(screen),
        logs: LogDir::new(session.connection.log_dir()),
        last: None,
        step: None,
        fleet: None,
        noted: false,
    };
    loop {
        // A read that hangs ends at the deadline; the last known state then counts.
        if let Ok(read) = timeout_at(deadline, session.store.get(name)).await {
            match watch.take(read, goal)? {
                GoalState::Reached => return watch.reached(goal, started.elapsed()),
                GoalState::OutOfReach(why) => {
                    watch.progress.end(&format!("cluster {name}: {why}"));
                    return Ok(Exit::Failed);
                }
                GoalState::NotYet => {}
            }
        }
        if Instant::now() >= deadline {
            return Ok(watch.timed_out(limit).await);
        }
        // If this read hangs, the message of the row is shown.
        let _ = timeout_at(deadline, watch.read_steps()).await;
        if started.elapsed() >= CHECK_DAEMONS_AFTER {
            watch.check_daemons().await;
        }
        watch.show(started.elapsed());
        sleep(POLL_EVERY.min(deadline - Instant::now())).await;
    }
}

struct ClusterWatch<'a> {
    session: &'a CliSession,
    name: &'a ClusterName,
    progress: ProgressLine,
    logs: LogDir,
    last: Option<Cluster>,
    /// The running step, of a driver with several.
    step: Option<String>,
    /// The daemons, once a while has passed.
    fleet: Option<Arc<FleetView>>,
    /// Whether it was noted that no daemon works on the cluster.
    noted: bool,
}

impl ClusterWatch<'_> {
    fn take(
        &mut self,
        read: Result<Option<Cluster>, DatabaseError>,
        goal: Goal,
    ) -> Result<GoalState, CliError> {
        match read {
            Ok(row) => {
                let state = goal.judge(row.as_ref());
                self.last = row;
                self.progress.set_outage(None);
                Ok(state)
            }
            Err(error) if error.is_temporary() => {
                self.progress.set_outage(Some(&format!(
                    "waiting for the database: {}",
                    chain(&error)
                )));
                Ok(GoalState::NotYet)
            }
            Err(error) => {
                self.progress.clear();
                Err(self.session.failed(error))
            }
        }
    }

    /// Reads the running step: the row names it only from the second step on.
    async fn read_steps(&mut self) {
        self.step = None;
        let Some(cluster) = self
            .last
            .as_ref()
            .filter(|row| row.actual.is_transitional())
        else {
            return;
        };
        // Ignores errors: the read of the row reports them.
        if let Ok(steps) = self.session.store.steps(cluster.uid).await {
            let progress = StepProgress::of(cluster, &steps);
            self.step = progress.and_then(|progress| progress.sentence());
        }
    }

    fn show(&mut self, elapsed: Duration) {
        let Some(cluster) = &self.last else { return };
        let now = Timestamp::now();
        let mut state = format!("{} {}", self.name, cluster.actual);
        // A missing daemon is noted once, and the row keeps its reason.
        let fleet = self.fleet.as_deref().filter(|_| !self.noted);
        let why = self
            .step
            .clone()
            .unwrap_or_else(|| text::why(cluster, fleet));
        if !why.is_empty() {
            state.push_str(&format!(": {why}"));
        }
        let attempts = text::next_attempt(cluster, now)
            .filter(|_| cluster.actual == Actual::Failed)
            .map(|next| match cluster.failed_attempts {
                // A retry reset the count.
                0 => format!("next attempt {next}"),
                failed => format!("attempt {failed} failed, next {next}"),
            });
        // Only for a live line: it changes too often for plain lines.
        let last_line = || {
            let owner = LogOwner::row(cluster.uid, cluster.created_at);
            let log = self.logs.of(self.name.as_str(), owner);
            tail(&log, 1).ok()?.pop()
        };
        let log = self.progress.is_live().then(last_line).flatten();
        self.progress
            .show(elapsed, &state, attempts.as_deref(), log.as_deref());
    }

    /// Notes, once, if no daemon works on the cluster.
    async fn check_daemons(&mut self) {
        self.fleet = self.session.fleet().await;
        let waiting = self.fleet.as_ref().zip(self.last.as_ref());
        let waiting = waiting.and_then(|(fleet, cluster)| fleet.waiting(cluster));
        if let Some(waiting) = waiting.filter(Waiting::needs_daemon)
            && !std::mem::replace(&mut self.noted, true)
        {
            self.progress.note(&text::line(&waiting.to_string()));
        }
    }

    fn reached(&mut self, goal: Goal, elapsed: Duration) -> Result<Exit, CliError> {
        self.progress.clear();
        let name = self.name;
        let now = match goal.desired {
            Desired::Present => "running",
            Desired::Stopped => "stopped",
            Desired::Absent => "gone",
        };
        write_out(&format!(
            "cluster {name} is {now} after {}\n",
            text::span(elapsed)
        ))
    }

    async fn timed_out(&mut self, limit: Duration) -> Exit {
        let read = timeout(READ_WITHIN, self.session.fleet());
        self.fleet = read.await.unwrap_or_default();
        let name = self.name;
        let limit = text::span(limit);
        let Some(cluster) = &self.last else {
            self.progress.end(&format!(
                "cluster {name}: timed out after {limit}; its row was not read"
            ));
            return Exit::TimedOut;
        };
        let actual = cluster.actual;
        let fleet = self.fleet.as_deref();
        let why = text::why(cluster, fleet);
        let waiting = fleet.and_then(|fleet| fleet.waiting(cluster));
        let next = match waiting.is_some_and(|waiting| waiting.needs_daemon()) {
            true => "kindler status".to_owned(),
            false => format!("kindler get {name}, kindler logs {name}"),
        };
        self.progress.end(&format!(
            "cluster {name}: timed out after {limit}; it is {actual}: {why}\nnext: {next}"
        ));
        if actual == Actual::Failed {
            Exit::Failed
        } else {
            Exit::TimedOut
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusters::samples::dev;

    #[test]
    fn running_counts_only_for_this_generation() {
        let goal = Goal::of(&dev());
        let mut row = dev().recorded(Actual::Running).applied();
        assert_eq!(goal.judge(Some(&row)), GoalState::Reached);
        row.generation += 1;
        assert_eq!(goal.judge(Some(&row)), GoalState::NotYet);
        assert!(matches!(goal.judge(None), GoalState::OutOfReach(_)));
        let absent = row.wanted(Desired::Absent);
        assert!(matches!(
            goal.judge(Some(&absent)),
            GoalState::OutOfReach(_)
        ));
    }

    #[test]
    fn deleted_means_that_the_row_is_removed() {
        let row = dev().wanted(Desired::Absent).recorded(Actual::Deleting);
        let goal = Goal::of(&row);
        assert_eq!(goal.judge(Some(&row)), GoalState::NotYet);
        assert_eq!(goal.judge(None), GoalState::Reached);
    }

    #[test]
    fn a_later_row_of_the_name_does_not_count() {
        let later = Cluster {
            uid: Uuid::from_u128(2),
            ..dev().recorded(Actual::Running).applied()
        };
        let deleted = Goal::of(&dev().wanted(Desired::Absent));
        assert_eq!(deleted.judge(Some(&later)), GoalState::Reached);
        let created = Goal::of(&dev());
        assert!(matches!(
            created.judge(Some(&later)),
            GoalState::OutOfReach(_)
        ));
    }

    #[test]
    fn a_retry_waits_for_a_later_status() {
        let mut row = dev().recorded(Actual::Running).applied();
        let goal = Goal::after_retry(&row);
        assert_eq!(goal.judge(Some(&row)), GoalState::NotYet);
        row.last_reconciled_at = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(goal.judge(Some(&row)), GoalState::Reached);
    }
}
