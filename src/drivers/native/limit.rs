//! How long a part of a step may take, and which setting says so.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::duration::compact;

use super::work::NativeWork;

/// A deadline; its text names the setting, if one decides.
#[derive(Clone, Debug)]
pub(super) struct StepLimit {
    pub time: Duration,
    text: String,
}

impl StepLimit {
    /// One that no setting changes.
    pub fn fixed(time: Duration) -> Self {
        let text = compact(time);
        Self { time, text }
    }

    /// When it passes, from now on.
    pub fn end(&self) -> Instant {
        Instant::now() + self.time
    }
}

impl fmt::Display for StepLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl NativeWork<'_> {
    /// The rest of the action's deadline.
    pub fn rest(&self) -> StepLimit {
        let setting = self.driver.settings.deadlines.setting(self.action);
        let text = format!("the rest of {setting}");
        StepLimit {
            time: self.left,
            text,
        }
    }

    /// This time, or the rest of the action's deadline if that is shorter.
    pub fn at_most(&self, time: Duration) -> StepLimit {
        match self.left < time {
            true => self.rest(),
            false => StepLimit::fixed(time),
        }
    }
}
