//! The one step of the script driver: the host's own command, which does all of it.

use std::time::Duration;

use async_trait::async_trait;

use crate::clusters::plan::Action;
use crate::core::steps::{Step, StepError, StepObservation};

use super::{Order, ScriptDriver, calls};

/// The name of the step, whatever the host calls its command.
pub(super) const NAME: &str = "create_env.sh";

/// Creates and updates by the host's create command, removes by its delete command.
pub(super) struct CommandStep<'a> {
    pub(super) driver: &'a ScriptDriver,
    pub(super) action: Action,
    pub(super) order: &'a Order<'a>,
}

#[async_trait]
impl Step for CommandStep<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Only the cluster as a whole can be looked at.
    fn is_observable(&self) -> bool {
        false
    }

    fn input(&self) -> String {
        calls::spec_args(self.order.cluster).join(" ")
    }

    /// The runner of commands keeps it, and ends the whole process tree then.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    async fn observe(&self) -> StepObservation {
        StepObservation::Unknown("only the cluster as a whole can be looked at".to_owned())
    }

    async fn apply(&self) -> Result<(), StepError> {
        self.driver.command(self.action, self.order).await
    }

    async fn remove(&self) -> Result<(), StepError> {
        self.driver.command(Action::Delete, self.order).await
    }
}
