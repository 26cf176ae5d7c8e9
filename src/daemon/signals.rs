//! How a person or a supervisor ends the process: the first SIGTERM, SIGINT or
//! SIGHUP asks it to, the second forces it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The exit code after a second signal: what a shell shows for Ctrl-C.
const FORCED: i32 = 130;

/// Cancels `shutdown` at the first signal. At the second the process ends at
/// once; guards then end the commands, and leases end with their lifetime.
///
/// # Errors
/// When the operating system refuses the handlers.
pub(super) fn watch(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        any(&mut terminate, &mut interrupt, &mut hangup).await;
        shutdown.cancel();
        info!("ending; a second signal forces it");
        any(&mut terminate, &mut interrupt, &mut hangup).await;
        warn!("forced to end");
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
