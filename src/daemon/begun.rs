//! What every daemon's command does first, and what it has until its end.

use tokio_util::sync::CancellationToken;

use super::traces::Traces;
use super::{DaemonError, logging, signals};
use crate::config::DaemonSettings;

/// Logs, traces and signals, from the beginning of a command to its end.
pub(super) struct Begun {
    /// Cancelled when somebody asks the process to end.
    pub(super) shutdown: CancellationToken,
    /// To be ended when nothing more is done.
    pub(super) traces: Traces,
}

/// Logs, and hears signals.
pub(super) fn begin(settings: &DaemonSettings) -> Result<Begun, DaemonError> {
    let traces = Traces::begin();
    let level = logging::init(settings, &traces);
    let shutdown = CancellationToken::new();
    let heeded = signals::watch(shutdown.clone()).and_then(|()| level.heed_signals());
    heeded.map_err(|source| DaemonError::System {
        operation: "watch for signals",
        source,
    })?;
    Ok(Begun { shutdown, traces })
}
