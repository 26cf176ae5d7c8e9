//! The start that all commands of the daemon share: logs, traces, signals.

use tokio_util::sync::CancellationToken;

use super::{DaemonError, Traces, logging, signals};
use crate::config::DaemonSettings;

/// What a command keeps from its start to its end.
pub(super) struct Startup {
    /// Cancelled by the first signal that ends the process.
    pub(super) shutdown: CancellationToken,
    /// To be shut down when all work has ended.
    pub(super) traces: Traces,
}

/// Starts logs, traces and the signal handlers.
pub(super) fn start(settings: &DaemonSettings) -> Result<Startup, DaemonError> {
    let traces = Traces::start();
    let level = logging::init(settings, &traces);
    let shutdown = CancellationToken::new();
    let handlers = signals::watch(shutdown.clone()).and_then(|()| level.watch_signals());
    handlers.map_err(|source| DaemonError::System {
        operation: "install signal handlers",
        source,
    })?;
    Ok(Startup { shutdown, traces })
}
