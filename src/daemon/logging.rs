//! Where log lines go: stderr, for people on a terminal, as JSON otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{DaemonSettings, LogFormat};

/// Starts logging; a second call changes nothing.
pub(super) fn init(settings: &DaemonSettings) {
    let filter = EnvFilter::new(&settings.serving.log);
    let json = match settings.serving.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A reader of stderr that went away must not take the daemon with it.
        .log_internal_errors(false);
    // A failure means that a test already set one up.
    let _ = if json {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init()
    } else {
        builder
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .try_init()
    };
}
