//! Signals that end the process: the first SIGTERM, SIGINT or SIGHUP starts an orderly
//! shutdown, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The exit code after a second signal, the same as for Ctrl-C in a shell.
const FORCED: i32 = 130;

/// Cancels `shutdown` at the first signal and exits at the second. After an exit the
/// guards end the commands, and the leases expire.
///
/// # Errors
/// If the operating system rejects the handlers.
pub(super) fn watch(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        any(&mut terminate, &mut interrupt, &mut hangup).await;
        shutdown.cancel();
        info!("shutting down; a second signal ends the process at once");
        any(&mut terminate, &mut interrupt, &mut hangup).await;
        warn!("ended by a second signal");
        std::process::exit(FORCED);
    });
    Ok(())
}

async fn any(terminate: &mut Signal, interrupt: &mut Signal, hangup: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = hangup.recv() => {}
    }
}
