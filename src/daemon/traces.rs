//! Exports traces to an OpenTelemetry collector (feature `otel`): the span of each
//! finished reconcile. The standard variables configure it
//! (`OTEL_EXPORTER_OTLP_ENDPOINT` and others); without an endpoint nothing is sent.
//!
//! A slow or unreachable collector never delays work: a separate thread sends the
//! spans in batches, and spans are dropped when its queue is full.

use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::cause;
use crate::redact::without_secrets;

/// Each of these enables the export.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
/// The variables that select the protocol.
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
/// Timeout for one batch, and for the flush at shutdown.
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// The exporter; [`TraceExporter::shutdown`] flushes it.
pub(super) struct TraceExporter {
    provider: Option<SdkTracerProvider>,
    failed: Option<ExporterBuildError>,
}

impl TraceExporter {
    /// Starts the export if the environment sets an endpoint.
    pub(super) fn start() -> Self {
        if !ENDPOINTS.iter().any(|name| is_set(name)) {
            return Self {
                provider: None,
                failed: None,
            };
        }
        match provider() {
            Ok(provider) => Self {
                provider: Some(provider),
                failed: None,
            },
            Err(failed) => Self {
                provider: None,
                failed: Some(failed),
            },
        }
    }

    /// The layer that passes spans to the exporter.
    pub(super) fn layer<S>(&self) -> Option<Box<dyn Layer<S> + Send + Sync>>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let tracer = self.provider.as_ref()?.tracer("kindler");
        Some(tracing_opentelemetry::layer().with_tracer(tracer).boxed())
    }

    /// Logs why the export could not start; called once the log is set up.
    pub(super) fn log_failure(&self) {
        if let Some(error) = &self.failed {
            // The error contains the endpoint, which may contain a password.
            let error = without_secrets(&cause::chain(error));
            warn!(error, "traces are not exported");
        }
    }

    /// Sends the queued spans and ends the export.
    pub(super) async fn shutdown(self) {
        let Some(provider) = self.provider else {
            return;
        };
        // The call blocks and needs the runtime meanwhile.
        let result =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SEND_WITHIN));
        if let Ok(Err(error)) = result.await {
            let error = &error as &dyn std::error::Error;
            warn!(error, "the last traces were not exported");
        }
    }
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

fn provider() -> Result<SdkTracerProvider, ExporterBuildError> {
    let client = OnRuntime {
        runtime: Handle::current(),
        client: HyperClient::with_default_connector(SEND_WITHIN, None),
    };
    let mut exporter = SpanExporter::builder().with_http().with_http_client(client);
    // The default of the standard; the library's default differs.
    if !PROTOCOLS.iter().any(|name| is_set(name)) {
        exporter = exporter.with_protocol(Protocol::HttpBinary);
    }
    let exporter = exporter.build()?;
    let mut resource = Resource::builder();
    if !is_set("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name("kindler");
    }
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build())
}

/// An HTTP client for the exporter's thread, which has no runtime: requests run on ours.
#[derive(Clone, Debug)]
struct OnRuntime {
    runtime: Handle,
    client: HyperClient,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self
            .runtime
            .spawn(async move { client.send_bytes(request).await });
        sent.await?
    }
}
