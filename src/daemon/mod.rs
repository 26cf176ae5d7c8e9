//! The running process: its parts, each with an owner that waits for its end.
//!
//! [`serve`] reconciles until it is asked to end, [`once`] makes one complete
//! pass, [`dev`] brings a private Postgres. No decision about clusters here.

mod admission;
mod begun;
mod dev;
mod driver;
mod error;
mod heartbeat;
mod identity;
mod logging;
mod opening;
mod orphans;
mod process;
mod reconnects;
mod seed;
mod senses;
mod serving;
mod signals;
mod systemd;
#[cfg_attr(not(feature = "otel"), path = "no_traces.rs")]
mod traces;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::DaemonSettings;
use crate::core::wakeups::WakeupQueue;
use crate::http;
use crate::store::newer_schema;

use begun::begin;
use process::{Databases, Process};
use serving::run;

pub use dev::dev;
pub use error::DaemonError;

/// How a daemon's command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it was asked to; everything is as declared, for a single pass.
    Well,
    /// A single pass left something that failed or is not as declared yet.
    Unconverged,
}

/// Reconciles until SIGTERM or SIGINT.
///
/// # Errors
/// [`DaemonError`] for what no waiting mends; an unreachable database is
/// waited for.
pub async fn serve(settings: DaemonSettings) -> Result<Ended, DaemonError> {
    let begun = begin(&settings)?;
    let ended = served(settings, begun.shutdown).await;
    begun.traces.end().await;
    ended
}

async fn served(
    settings: DaemonSettings,
    shutdown: CancellationToken,
) -> Result<Ended, DaemonError> {
    let page = settings.api_database()?;
    let databases = Databases {
        // Where nothing is reconciled, no right to do so is needed.
        daemon: if settings.web.api_only {
            page.clone()
        } else {
            settings.connection.database()?
        },
        page,
    };
    let socket = http::bind(settings.serving.listen).await?;
    run(settings, databases, socket, shutdown)
        .await
        .map(|()| Ended::Well)
}

/// Makes one complete pass and waits for what it started: exit code 0 when
/// everything is as declared, 1 when something failed or is not yet.
///
/// # Errors
/// [`DaemonError`], also when the database cannot be reached.
pub async fn once(settings: DaemonSettings) -> Result<Ended, DaemonError> {
    let begun = begin(&settings)?;
    let ended = one_pass(settings, begun.shutdown).await;
    begun.traces.end().await;
    ended
}

async fn one_pass(
    settings: DaemonSettings,
    shutdown: CancellationToken,
) -> Result<Ended, DaemonError> {
    let database = settings.connection.database()?;
    let process = Process::new(settings, &database, None);
    if let Some(newer) = newer_schema(process.store.check().await?) {
        return Err(newer.into());
    }
    process.preflight().await;
    let lease = process.settings.lease_policy().ttl;
    orphans::end_before_the_start(lease, &shutdown).await;
    let (_schema, known) = watch::channel(None);
    let controller = process.controller(WakeupQueue::default(), known);
    let ended = controller.run_once(shutdown.clone()).await;
    process.release().await;
    ended?;
    let left = process.store.unconverged().await?;
    info!(
        failed = left.failed,
        unsettled = left.unsettled,
        "pass ended"
    );
    let converged = left.failed == 0 && left.unsettled == 0 && !shutdown.is_cancelled();
    Ok(if converged {
        Ended::Well
    } else {
        Ended::Unconverged
    })
}
