//! Logging to stderr: text on a terminal, else JSON. Two signals change the level
//! while the daemon runs.

use std::io::IsTerminal;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use super::Traces;
use super::json_lines::JsonLines;
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
    let ansi = std::io::stderr().is_terminal();
    let lines = lines(json, ansi, std::io::stderr);
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

/// Writes a line for each event. In both formats, a field that is an error carries its causes.
fn lines<S, W>(json: bool, ansi: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer()
        .with_writer(writer)
        // A closed stderr must not end the daemon.
        .log_internal_errors(false);
    if json {
        lines
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines)
            .boxed()
    } else {
        lines.with_target(false).with_ansi(ansi).boxed()
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("claiming failed")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("the server closed the session")]
    struct Middle(#[source] std::fmt::Error);

    /// What `lines` writes of an error field within a span.
    fn written(json: bool) -> String {
        let out: Arc<Mutex<Vec<u8>>> = Arc::default();
        let sink = out.clone();
        let writer = move || -> Box<dyn std::io::Write> { Box::new(Sink(sink.clone())) };
        let subscriber = tracing_subscriber::registry().with(lines(json, false, writer));
        tracing::subscriber::with_default(subscriber, || {
            let _in_span = tracing::info_span!("reconcile", cluster = "a").entered();
            let error = Outer(Middle(std::fmt::Error));
            let error = &error as &dyn std::error::Error;
            error!(error, attempts = 3, "the claim failed");
        });
        String::from_utf8(out.lock().unwrap().clone()).unwrap()
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(part);
            Ok(part.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_error_field_carries_its_causes_in_both_formats() {
        let causes = ["claiming failed", "the server closed the session"];
        for json in [true, false] {
            let line = written(json);
            let innermost = std::fmt::Error.to_string();
            for cause in causes.iter().copied().chain([innermost.as_str()]) {
                assert!(line.contains(cause), "{cause} is missing in {line}");
            }
        }
    }

    #[test]
    fn a_json_line_has_level_message_fields_target_and_spans() {
        let line: serde_json::Value = serde_json::from_str(&written(true)).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["message"], "the claim failed");
        assert_eq!(line["attempts"], 3);
        assert_eq!(line["target"], "kindler::daemon::logging::tests");
        assert_eq!(line["spans"][0]["name"], "reconcile");
        assert_eq!(line["spans"][0]["cluster"], "a");
        let at: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(at <= jiff::Timestamp::now());
    }
}
