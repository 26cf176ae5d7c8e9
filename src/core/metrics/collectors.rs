//! Creates and registers the collectors of the catalogue's entries.

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry,
};

use super::family::{Family, Kind};

/// # Panics
/// If the catalogue is wrong; every test that creates metrics would fail.
fn registered<C: Collector + Clone + 'static>(r: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names, labels and buckets are constants");
    r.register(Box::new(collector.clone()))
        .expect("every name is used once");
    collector
}

fn opts(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

fn histogram_opts(family: &Family) -> HistogramOpts {
    let Kind::Histogram(buckets) = family.kind else {
        panic!("{} is no histogram", family.name);
    };
    HistogramOpts::new(family.name, family.help).buckets(buckets.to_vec())
}

pub(crate) fn gauge(r: &Registry, family: &Family) -> IntGauge {
    registered(r, IntGauge::with_opts(opts(family)))
}

pub(crate) fn float_gauge(r: &Registry, family: &Family) -> Gauge {
    registered(r, Gauge::with_opts(opts(family)))
}

pub(crate) fn gauges(r: &Registry, family: &Family) -> IntGaugeVec {
    registered(r, IntGaugeVec::new(opts(family), family.labels))
}

pub(crate) fn float_gauges(r: &Registry, family: &Family) -> GaugeVec {
    registered(r, GaugeVec::new(opts(family), family.labels))
}

pub(crate) fn counter(r: &Registry, family: &Family) -> IntCounter {
    registered(r, IntCounter::with_opts(opts(family)))
}

pub(crate) fn float_counter(r: &Registry, family: &Family) -> Counter {
    registered(r, Counter::with_opts(opts(family)))
}

pub(crate) fn counters(r: &Registry, family: &Family) -> IntCounterVec {
    registered(r, IntCounterVec::new(opts(family), family.labels))
}

pub(crate) fn histogram(r: &Registry, family: &Family) -> Histogram {
    registered(r, Histogram::with_opts(histogram_opts(family)))
}

pub(crate) fn histograms(r: &Registry, family: &Family) -> HistogramVec {
    registered(r, HistogramVec::new(histogram_opts(family), family.labels))
}
