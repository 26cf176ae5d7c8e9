//! HTTP metrics, by route template and never by path.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGauge, Registry};

use super::catalogue as names;
use crate::core::metrics::{CountedInGauge, collectors};

/// The counters of the HTTP server.
#[derive(Debug)]
pub struct HttpMetrics {
    requests_total: IntCounterVec,
    request_duration_seconds: HistogramVec,
    streams_open: IntGauge,
}

impl HttpMetrics {
    pub(super) fn new(r: &Registry) -> Self {
        Self {
            requests_total: collectors::counters(r, &names::HTTP_REQUESTS_TOTAL),
            request_duration_seconds: collectors::histograms(
                r,
                &names::HTTP_REQUEST_DURATION_SECONDS,
            ),
            streams_open: collectors::gauge(r, &names::STREAMS_OPEN),
        }
    }

    /// Counts a response. `method` and `route` must be from closed sets; `took` is
    /// `None` for a stream, whose duration is not a latency.
    pub fn answered(&self, method: &str, route: &str, code: u16, took: Option<Duration>) {
        let code = code.to_string();
        self.requests_total
            .with_label_values(&[method, route, &code])
            .inc();
        if let Some(took) = took {
            self.request_duration_seconds
                .with_label_values(&[method, route])
                .observe(took.as_secs_f64());
        }
    }

    /// Counts a stream as open until the returned value is dropped.
    pub fn stream(&self) -> CountedInGauge {
        CountedInGauge::increment(&self.streams_open)
    }
}
