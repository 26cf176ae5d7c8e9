//! Replaces the trace exporter in builds without the feature `otel`.

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

/// Exports nothing.
pub(super) struct NoTraces;

impl NoTraces {
    pub(super) fn start() -> Self {
        Self
    }

    pub(super) fn layer<S>(&self) -> Option<Box<dyn Layer<S> + Send + Sync>>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        None
    }

    pub(super) fn log_failure(&self) {}

    pub(super) async fn shutdown(self) {}
}
