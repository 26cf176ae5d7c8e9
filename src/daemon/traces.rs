//! Traces for an OpenTelemetry collector (the feature `otel`): each reconcile's
//! span goes there once it has ended. The standard variables say where to
//! (`OTEL_EXPORTER_OTLP_ENDPOINT` and its kin); without one nothing is sent.
//!
//! A collector that is slow or away costs spans and never work: they are sent in
//! batches by a thread of their own, and dropped when too many wait.

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

/// Any of them turns the export on.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
/// What says how spans are written.
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
/// How long one batch may take, and the last one at the end.
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// What exports, to be ended in good order.
pub(super) struct Traces {
    provider: Option<SdkTracerProvider>,
    failed: Option<ExporterBuildError>,
}

impl Traces {
    /// Begins to export, if the environment says where to.
    pub(super) fn begin() -> Self {
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

    /// What hands spans over.
    pub(super) fn layer<S>(&self) -> Option<Box<dyn Layer<S> + Send + Sync>>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let tracer = self.provider.as_ref()?.tracer("kindler");
        Some(tracing_opentelemetry::layer().with_tracer(tracer).boxed())
    }

    /// Says what is wrong, once there is a log to say it in.
    pub(super) fn tell(&self) {
        if let Some(error) = &self.failed {
            // It repeats the address, which may hold a password.
            let error = without_secrets(&cause::chain(error));
            warn!(error, "traces are not exported");
        }
    }

    /// Sends what waits.
    pub(super) async fn end(self) {
        let Some(provider) = self.provider else {
            return;
        };
        // It blocks, and needs the runtime meanwhile.
        let ended =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SEND_WITHIN));
        if let Ok(Err(error)) = ended.await {
            let error = &error as &dyn std::error::Error;
            warn!(error, "the last traces are not exported");
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
    // The default of the standard; the library's own is another.
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

/// The exporter's thread knows no runtime; requests are made on ours.
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
