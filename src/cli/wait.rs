//! Waiting until a cluster is what was declared: by reading its row, because
//! the row is the truth, whoever reconciles it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::clusters::{Actual, Cluster, ClusterName, Desired, StepProgress};
use crate::command::{LogDir, LogOwner, tail};
use crate::config::HEARTBEAT;
use crate::core::database::DatabaseError;

use super::error::CliError;
use super::outcome::Exit;
use super::progress::Progress;
use super::screen::{Screen, write_out};
use super::session::Session;
use super::text;
use crate::cause::chain;

/// Between two looks at the row.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Before asking whether anybody works at all.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    /// Of this row: another of its name is not waited for.
    uid: Uuid,
    desired: Desired,
    /// Somebody must have written a status since this one.
    after: Option<Option<Timestamp>>,
}

impl Goal {
    /// That what is declared of this row is reached.
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self {
            uid: cluster.uid,
            desired: cluster.desired,
            after: None,
        }
    }

    /// That what is declared is reached, as seen after the retry that
    /// returned this row.
    pub(super) fn tried_again(cluster: &Cluster) -> Self {
        Self {
            uid: cluster.uid,
            desired: cluster.desired,
            after: Some(cluster.last_reconciled_at),
        }
    }

    fn judge(&self, row: Option<&Cluster>) -> Verdict {
        match row.filter(|row| row.uid == self.uid) {
            None if self.desired == Desired::Absent => Verdict::Reached,
            None => Verdict::OutOfReach("its row was removed".to_owned()),
            Some(cluster) if cluster.desired != self.desired => {
                Verdict::OutOfReach(format!("it was declared {} meanwhile", cluster.desired))
            }
            Some(cluster) => {
                let seen = self
                    .after
                    .is_none_or(|before| before != cluster.last_reconciled_at);
                if cluster.settled() && seen {
                    Verdict::Reached
                } else {
                    Verdict::NotYet
                }
            }
        }
    }
}

/// What a look at the row means for the goal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    NotYet,
    OutOfReach(String),
}

/// Waits for a goal and shows the way there on stderr. A database that cannot
/// be reached is waited out, too.
pub(super) async fn wait(
    session: &Session,
    screen: &Screen,
    name: &ClusterName,
    goal: Goal,
    limit: Duration,
) -> Result<Exit, CliError> {
    let started = Instant::now();
    let deadline = started + limit;
    let mut watch = Watch {
        session,
        name,
        progress: Progress::new(screen),
        logs: LogDir::new(session.connection.log_dir()),
        last: None,
        step: None,
        asked_for_daemon: false,
    };
    loop {
        // A look that hangs ends with the wait; the last known state then counts.
        if let Ok(looked) = timeout_at(deadline, session.store.get(name)).await {
            match watch.take(looked, goal)? {
                Verdict::Reached => return watch.reached(goal, started.elapsed()),
                Verdict::OutOfReach(why) => {
                    watch.progress.end(&format!("cluster {name}: {why}"));
                    return Ok(Exit::Failed);
                }
                Verdict::NotYet => {}
            }
        }
        if Instant::now() >= deadline {
            return Ok(watch.timed_out(limit));
        }
        // A look that hangs tells nothing; the row's own message stands then.
        let _ = timeout_at(deadline, watch.look_at_steps()).await;
        if started.elapsed() >= PATIENCE {
            watch.ask_for_daemon().await;
        }
        watch.show(started.elapsed());
        sleep(LOOK_EVERY.min(deadline - Instant::now())).await;
    }
}

/// One wait in progress.
struct Watch<'a> {
    session: &'a Session,
    name: &'a ClusterName,
    progress: Progress,
    logs: LogDir,
    last: Option<Cluster>,
    /// Which step is worked on, of a driver with several.
    step: Option<String>,
    asked_for_daemon: bool,
}

impl Watch<'_> {
    fn take(
        &mut self,
        looked: Result<Option<Cluster>, DatabaseError>,
        goal: Goal,
    ) -> Result<Verdict, CliError> {
        match looked {
            Ok(row) => {
                let verdict = goal.judge(row.as_ref());
                self.last = row;
                self.progress.trouble(None);
                Ok(verdict)
            }
            Err(error) if error.is_unreachable() => {
                self.progress.trouble(Some(&format!(
                    "waiting for the database: {}",
                    chain(&error)
                )));
                Ok(Verdict::NotYet)
            }
            Err(error) => {
                self.progress.clear();
                Err(self.session.failed(error))
            }
        }
    }

    /// Reads which step is worked on: the row names it only from the second on.
    async fn look_at_steps(&mut self) {
        self.step = None;
        let Some(cluster) = self.last.as_ref().filter(|row| row.actual.is_at_work()) else {
            return;
        };
        // What stands in the way of reading is told by the look at the row.
        if let Ok(steps) = self.session.store.steps(cluster.uid).await {
            let progress = StepProgress::of(cluster, &steps);
            self.step = progress.and_then(|progress| progress.sentence());
        }
    }

    fn show(&mut self, elapsed: Duration) {
        let Some(cluster) = &self.last else { return };
        let now = Timestamp::now();
        let mut state = format!("{} {}", self.name, cluster.actual);
        let why = self.step.clone().unwrap_or_else(|| text::why(cluster));
        if !why.is_empty() {
            state.push_str(&format!(": {why}"));
        }
        let tries = text::next_try(cluster, now)
            .filter(|_| cluster.actual == Actual::Failed)
            .map(|next| match cluster.failed_attempts {
                // A person asked for another, and the count began anew.
                0 => format!("next attempt {next}"),
                failed => format!("attempt {failed} failed, next {next}"),
            });
        // Read only where it is shown: it changes too often for plain lines.
        let last_line = || {
            let owner = LogOwner::row(cluster.uid, cluster.created_at);
            let log = self.logs.of(self.name.as_str(), owner);
            tail(&log, 1).ok()?.pop()
        };
        let log = self.progress.is_live().then(last_line).flatten();
        self.progress
            .show(elapsed, &state, tries.as_deref(), log.as_deref());
    }

    /// Says once, if so, that nobody is there who does the work.
    async fn ask_for_daemon(&mut self) {
        if std::mem::replace(&mut self.asked_for_daemon, true) {
            return;
        }
        let Ok(replicas) = self.session.store.replicas().await else {
            return;
        };
        let mut alive = replicas.iter().filter(|replica| replica.alive(HEARTBEAT));
        let Some(newest) = alive.next() else {
            return self
                .progress
                .note("no daemon is running on this database: start `kindler serve`");
        };
        if newest.aside && alive.all(|replica| replica.aside) {
            let why = newest.notice.as_deref().map(text::line);
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            return self
                .progress
                .note(&format!("all replicas are on standby{why}"));
        }
        let store = &self.session.store;
        let found = store.unselected(HEARTBEAT * 3, Some(self.name), 1).await;
        if found.is_ok_and(|found| found.total > 0) {
            self.progress
                .note("no daemon selects it: change its labels, or start a daemon whose KINDLER_SELECTOR matches");
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

    fn timed_out(&mut self, limit: Duration) -> Exit {
        let name = self.name;
        let limit = text::span(limit);
        let Some(cluster) = &self.last else {
            self.progress.end(&format!(
                "cluster {name}: timed out after {limit}; its row was not read"
            ));
            return Exit::TimedOut;
        };
        let actual = cluster.actual;
        let (why, next) = match text::why(cluster) {
            none if none.is_empty() => (
                "no daemon has observed it yet".to_owned(),
                "kindler status".to_owned(),
            ),
            why => (why, format!("kindler get {name}, kindler logs {name}")),
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
    fn running_counts_only_once_this_declaration_is_reached() {
        let goal = Goal::of(&dev());
        let mut row = dev().recorded(Actual::Running).applied();
        assert_eq!(goal.judge(Some(&row)), Verdict::Reached);
        row.generation += 1;
        assert_eq!(goal.judge(Some(&row)), Verdict::NotYet);
        assert!(matches!(goal.judge(None), Verdict::OutOfReach(_)));
        let absent = row.wanted(Desired::Absent);
        assert!(matches!(goal.judge(Some(&absent)), Verdict::OutOfReach(_)));
    }

    #[test]
    fn deleted_counts_only_once_the_row_is_gone() {
        let row = dev().wanted(Desired::Absent).recorded(Actual::Deleting);
        let goal = Goal::of(&row);
        assert_eq!(goal.judge(Some(&row)), Verdict::NotYet);
        assert_eq!(goal.judge(None), Verdict::Reached);
    }

    #[test]
    fn a_later_row_of_the_name_is_not_the_one_waited_for() {
        let later = Cluster {
            uid: Uuid::from_u128(2),
            ..dev().recorded(Actual::Running).applied()
        };
        let deleted = Goal::of(&dev().wanted(Desired::Absent));
        assert_eq!(deleted.judge(Some(&later)), Verdict::Reached);
        let created = Goal::of(&dev());
        assert!(matches!(
            created.judge(Some(&later)),
            Verdict::OutOfReach(_)
        ));
    }

    #[test]
    fn a_retry_waits_for_a_look_that_came_after_it() {
        let mut row = dev().recorded(Actual::Running).applied();
        let goal = Goal::tried_again(&row);
        assert_eq!(goal.judge(Some(&row)), Verdict::NotYet);
        row.last_reconciled_at = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(goal.judge(Some(&row)), Verdict::Reached);
    }
}
