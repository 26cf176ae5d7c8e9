//! Logging to stderr: text on a terminal, else JSON. Two signals change the level
//! while the daemon runs.

use std::io::IsTerminal;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use super::Traces;
use crate::config::{self, DaemonSettings, LogFormat};

/// Added to the level by SIGUSR1: debug lines of Kindler, not of its libraries.
const DEBUG: &str = "kindler=debug";

/// The database client logs the parameters of each statement at debug level, among
/// them hashes of tokens; only an explicit filter enables that.
const LIBRARY_LEVEL: &str = "tokio_postgres=info";

fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(format!("{LIBRARY_LEVEL},{level}"))
}

/// The log level of the running daemon.
pub(super) struct LogLevel {
    filter: reload::Handle<EnvFilter, Registry>,
    /// The configured level, without the addition of SIGUSR1.
    set: String,
}

/// Starts logging; a second call changes nothing.
pub(super) fn init(settings: &DaemonSettings, traces: &Traces) -> LogLevel {
    let set = settings.serving.log.clone();
    let (filter, handle) = reload::Layer::new(filter(&set));
    let json = match settings.serving.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        // A closed stderr must not end the daemon.
        .log_internal_errors(false);
    let lines = if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed()
    } else {
        lines
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .boxed()
    };
    // This fails only if a test has set up a log already.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(traces.layer())
        .try_init();
    traces.log_failure();
    LogLevel {
        filter: handle,
        set,
    }
}

impl LogLevel {
    /// Handles SIGUSR1 (adds debug lines) and SIGUSR2 (reads the setting again and
    /// applies it). Without a handler these signals would end the process.
    ///
    /// # Errors
    /// If the operating system rejects the handlers.
    pub(super) fn watch_signals(mut self) -> std::io::Result<()> {
        let mut debug = signal(SignalKind::user_defined1())?;
        let mut reset = signal(SignalKind::user_defined2())?;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = debug.recv() => self.apply(format!("{},{DEBUG}", self.set)),
                    Some(()) = reset.recv() => self.reset(),
                    else => return,
                }
            }
        });
        Ok(())
    }

    fn reset(&mut self) {
        let args: Vec<_> = std::env::args_os().collect();
        match config::log_setting(&args) {
            Ok(set) => {
                self.set.clone_from(&set);
                self.apply(set);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                error!(error, "the log level is unchanged");
            }
        }
    }

    fn apply(&self, level: String) {
        match self.filter.reload(filter(&level)) {
            // Not `level`: that key holds the level of the line in JSON.
            Ok(()) => info!(log = level, "log level is changed"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                error!(error, "the log level is unchanged");
            }
        }
    }
}
