//! The running process and its parts.
//!
//! [`serve`] reconciles until a signal, [`once`] runs one full pass, [`dev()`]
//! includes an embedded Postgres. This module makes no decision about clusters.

mod api_auth;
mod auto_driver;
mod database_wait;
mod dev;
mod driver;
mod ended_owners;
mod error;
mod ground;
mod health_channels;
mod heartbeat;
mod host_faults;
mod identity;
mod json_lines;
mod logging;
mod no_daemon;
#[cfg(not(feature = "otel"))]
mod no_traces;
mod orphans;
mod port_conflicts;
mod process;
mod reconnects;
mod replicas;
mod rowless;
mod seed;
mod serving;
mod signals;
mod startup;
mod state_folder;
mod systemd;
mod terms;
#[cfg(feature = "otel")]
mod traces;
mod workload;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::DaemonSettings;
use crate::core::wakeups::WakeupQueue;
use crate::http;
use crate::store::newer_schema;

#[cfg(not(feature = "otel"))]
use no_traces::NoTraces as Traces;
use process::{Databases, Process};
use serving::run;
use startup::start;
use terms::SeenTerms;
#[cfg(feature = "otel")]
use traces::TraceExporter as Traces;

pub use dev::dev;
pub use error::DaemonError;
pub(crate) use ground::{database_findings, lasting};
pub(crate) use state_folder::check_state_folder;

/// Result of a command of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonExit {
    /// Ended by a signal or, for a full pass, with everything as declared.
    Done,
    /// A single pass left clusters that failed or are not as declared.
    Unconverged,
}

/// Reconciles until SIGTERM or SIGINT.
///
/// # Errors
/// [`DaemonError`] if waiting cannot help. The daemon waits for an unreachable
/// database.
pub async fn serve(settings: DaemonSettings) -> Result<DaemonExit, DaemonError> {
    settings.check_driver()?;
    let startup = start(&settings)?;
    let result = run_serve(settings, startup.shutdown).await;
    startup.traces.shutdown().await;
    result
}

async fn run_serve(
    settings: DaemonSettings,
    shutdown: CancellationToken,
) -> Result<DaemonExit, DaemonError> {
    let page = settings.api_database()?;
    let databases = Databases {
        // Without reconciling, the daemon's own role is not needed.
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
        .map(|()| DaemonExit::Done)
}

/// Makes one complete pass and waits until its work is finished.
///
/// # Errors
/// [`DaemonError`], also if the database cannot be reached.
pub async fn once(settings: DaemonSettings) -> Result<DaemonExit, DaemonError> {
    settings.check_driver()?;
    let startup = start(&settings)?;
    let result = one_pass(settings, startup.shutdown).await;
    startup.traces.shutdown().await;
    result
}

async fn one_pass(
    settings: DaemonSettings,
    shutdown: CancellationToken,
) -> Result<DaemonExit, DaemonError> {
    let database = settings.connection.database()?;
    let process = Process::new(settings, &database, None);
    if let Some(newer) = newer_schema(process.store.check().await?) {
        return Err(newer.into());
    }
    let mut terms = SeenTerms::new(&process.settings.connection.state_dir);
    if let Some(went_back) = terms.check(&process.store).await? {
        terms::report(&went_back);
    }
    process.preflight().await;
    let lease = process.settings.lease_policy().ttl;
    orphans::end_at_start(lease, &shutdown).await;
    let mut ended = process.ended_owners();
    if let Some(ended) = &mut ended {
        ended.release().await;
    }
    let (_schema, standby) = watch::channel(None);
    let controller = process.controller(WakeupQueue::default(), standby);
    let result = controller.run_once(shutdown.clone()).await;
    if let Some(ended) = ended {
        shutdown.run_until_cancelled(ended.finish()).await;
    }
    process.release().await;
    result?;
    let left = process.store.unconverged().await?;
    info!(
        failed = left.failed,
        unsettled = left.unsettled,
        "pass ended"
    );
    let converged = left.failed == 0 && left.unsettled == 0 && !shutdown.is_cancelled();
    Ok(if converged {
        DaemonExit::Done
    } else {
        DaemonExit::Unconverged
    })
}
