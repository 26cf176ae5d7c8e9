//! Writes the log of a sandbox action, as real commands print theirs. It has no other effect.

use jiff::{Timestamp, Unit};

use crate::clusters::plan::Action;
use crate::command::{CommandLog, LogDir};
use crate::core::steps::StepError;

use super::ActionRequest;

/// The log of one action.
#[derive(Debug)]
pub(super) struct ActionLog {
    log: CommandLog,
    operation: &'static str,
}

impl ActionLog {
    pub(super) async fn begin(logs: &LogDir, action: Action, request: &ActionRequest<'_>) -> Self {
        let cluster = request.cluster;
        let mut log = logs.log(cluster.name.as_str(), cluster.uid, request.heading(action));
        log.begin(&"sandbox, not a real cluster").await;
        Self {
            log,
            operation: action.as_str(),
        }
    }

    pub(super) async fn write_line(&mut self, line: &str) {
        self.log.append(format!("{line}\n").as_bytes()).await;
    }

    /// Writes the end of the action; `None`: it was interrupted.
    pub(super) async fn end(&mut self, ended: Option<Result<(), &StepError>>) {
        let how = match ended {
            None => "was interrupted".to_owned(),
            Some(Ok(())) => "succeeded".to_owned(),
            Some(Err(error)) => format!("failed: {error}"),
        };
        let line = format!("--- {} {} {how}", now(), self.operation);
        self.write_line(&line).await;
    }

    /// The detail of a failure: the path of the log.
    pub(super) fn detail(&self) -> String {
        format!("log: {}", self.log.path().display())
    }
}

/// Now, to the second, in UTC.
fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now)
}
