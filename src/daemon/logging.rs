//! Where log lines go: stderr, for people on a terminal, as JSON otherwise. And
//! how much is told, which two signals change while the daemon runs.

use std::io::IsTerminal;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use super::traces::Traces;
use crate::config::{self, DaemonSettings, LogFormat};

/// What SIGUSR1 adds to the level that is set: everything of Kindler's own, and
/// no more of its libraries.
const MORE: &str = "kindler=debug";

/// The driver of the database tells the parameters of each statement, hashes of
/// tokens among them, unless somebody asks for just that.
const LESS: &str = "tokio_postgres=info";

fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(format!("{LESS},{level}"))
}

/// How much is told, for as long as the daemon runs.
pub(super) struct Level {
    filter: reload::Handle<EnvFilter, Registry>,
    /// As it was set last, without what SIGUSR1 adds.
    set: String,
}

/// Starts logging; a second call changes nothing.
pub(super) fn init(settings: &DaemonSettings, traces: &Traces) -> Level {
    let set = settings.serving.log.clone();
    let (filter, handle) = reload::Layer::new(filter(&set));
    let json = match settings.serving.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        // A reader of stderr that went away must not take the daemon with it.
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
    // A failure means that a test already set one up.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(traces.layer())
        .try_init();
    traces.tell();
    Level {
        filter: handle,
        set,
    }
}

impl Level {
    /// Heeds SIGUSR1 (tell more) and SIGUSR2 (as it is set; the setting is read
    /// anew), which would end the process otherwise.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    pub(super) fn heed_signals(mut self) -> std::io::Result<()> {
        let mut more = signal(SignalKind::user_defined1())?;
        let mut as_set = signal(SignalKind::user_defined2())?;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = more.recv() => self.apply(format!("{},{MORE}", self.set)),
                    Some(()) = as_set.recv() => self.read_anew(),
                    else => return,
                }
            }
        });
        Ok(())
    }

    fn read_anew(&mut self) {
        let args: Vec<_> = std::env::args_os().collect();
        match config::log_setting(&args) {
            Ok(set) => {
                self.set.clone_from(&set);
                self.apply(set);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                error!(error, "the log level stays as it is");
            }
        }
    }

    fn apply(&self, level: String) {
        match self.filter.reload(filter(&level)) {
            // Not `level`: a JSON line has its own under that key.
            Ok(()) => info!(log = level, "log level is changed"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                error!(error, "the log level stays as it is");
            }
        }
    }
}
