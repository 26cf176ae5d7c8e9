//! The only step of the script driver: the host's own command.

use std::time::Duration;

use async_trait::async_trait;

use crate::clusters::plan::Action;
use crate::core::steps::{Step, StepError, StepObservation};

use super::{ActionRequest, ScriptDriver, calls};

/// The name of the step, for any name of the host's command.
pub(super) const NAME: &str = "create_env.sh";

/// Applied by the host's create command, removed by its delete command.
pub(super) struct CommandStep<'a> {
    pub(super) driver: &'a ScriptDriver,
    pub(super) action: Action,
    pub(super) request: &'a ActionRequest<'a>,
}

#[async_trait]
impl Step for CommandStep<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Only the cluster as a whole can be observed.
    fn is_observable(&self) -> bool {
        false
    }

    fn input(&self) -> String {
        calls::spec_args(self.request.cluster).join(" ")
    }

    /// The command runner enforces the deadline and ends the whole process tree.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    async fn observe(&self) -> StepObservation {
        StepObservation::Unknown("only the cluster as a whole can be observed".to_owned())
    }

    async fn apply(&self) -> Result<(), StepError> {
        self.driver.command(self.action, self.request).await
    }

    async fn remove(&self) -> Result<(), StepError> {
        self.driver.command(Action::Delete, self.request).await
    }
}
