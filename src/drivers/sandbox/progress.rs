//! What an action of the sandbox writes into the cluster's log, so that there is something to
//! read in the place where the output of real commands is. This module must not act.

use jiff::{Timestamp, Unit};

use crate::clusters::plan::Action;
use crate::command::{CommandLog, LogDir};
use crate::core::steps::StepError;

use super::Order;

/// The log of one action.
#[derive(Debug)]
pub(super) struct Progress {
    log: CommandLog,
    operation: &'static str,
}

impl Progress {
    pub(super) async fn begin(logs: &LogDir, action: Action, order: &Order<'_>) -> Self {
        let cluster = order.cluster;
        let mut log = logs.log(cluster.name.as_str(), cluster.uid, order.heading(action));
        log.begin(&"sandbox, not a real cluster").await;
        Self {
            log,
            operation: action.as_str(),
        }
    }

    pub(super) async fn say(&mut self, line: &str) {
        self.log.append(format!("{line}\n").as_bytes()).await;
    }

    /// Closes the action; `None` says that it was cut short.
    pub(super) async fn end(&mut self, ended: Option<Result<(), &StepError>>) {
        let how = match ended {
            None => "was cut short".to_owned(),
            Some(Ok(())) => "succeeded".to_owned(),
            Some(Err(error)) => format!("failed: {error}"),
        };
        let line = format!("--- {} {} {how}", now(), self.operation);
        self.say(&line).await;
    }

    /// What a person needs beyond the summary: where the log is.
    pub(super) fn detail(&self) -> String {
        format!("log: {}", self.log.path().display())
    }
}

/// Now, to the second, in UTC.
fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now)
}
