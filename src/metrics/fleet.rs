//! The families about clusters, made anew from the rows at each scrape.
//!
//! Nothing is kept between scrapes, so the series of a removed cluster go with
//! it on every path. Every pair of states is shown, with 0 where there is none.

use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

use crate::cluster::{Actual, Desired};

/// A cluster that failed: reason as a word, never an error's text.
#[derive(Clone, Debug)]
pub struct FailingCluster {
    /// Its name.
    pub name: String,
    /// A word of [`crate::event::Reason`].
    pub reason: String,
    /// Failures in a row.
    pub failures: i64,
    /// Unix time of the next attempt; none means now.
    pub next_retry_seconds: Option<f64>,
}

/// What one scrape says of the clusters.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// How many clusters are in which (desired, actual) pair.
    pub states: Vec<(String, String, i64)>,
    /// What failed; the reader bounds how many.
    pub failing: Vec<FailingCluster>,
    /// Deletions that wait for their turn under the cap.
    pub deletions_held: i64,
    /// Repairs that wait until most clusters answer again.
    pub repairs_held: i64,
}

impl Fleet {
    /// The families of this scrape.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        let registry = Registry::new();
        let ints = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(format!("kindler_{name}"), help), labels);
            super::registered(&registry, made)
        };
        let clusters = ints(
            "clusters",
            "Clusters by what is wanted and what is recorded.",
            &["desired", "actual"],
        );
        for desired in Desired::ALL {
            for actual in Actual::ALL {
                clusters.with_label_values(&[desired.as_str(), actual.as_str()]);
            }
        }
        for (desired, actual, count) in &self.states {
            clusters.with_label_values(&[desired, actual]).set(*count);
        }
        for (name, help, count) in [
            (
                "deletions_held",
                "Deletions that wait for their turn under the cap.",
                self.deletions_held,
            ),
            (
                "repairs_held",
                "Repairs that wait because most clusters do not answer.",
                self.repairs_held,
            ),
        ] {
            super::gauge(&registry, name, help).set(count);
        }
        let failures = ints(
            "cluster_consecutive_failures",
            "Failed attempts in a row, for clusters that fail.",
            &["name", "reason"],
        );
        let retry = super::registered(
            &registry,
            GaugeVec::new(
                Opts::new(
                    "kindler_cluster_next_retry_timestamp_seconds",
                    "When a cluster that fails is tried next, in Unix time.",
                ),
                &["name"],
            ),
        );
        for cluster in &self.failing {
            failures
                .with_label_values(&[&cluster.name, &cluster.reason])
                .set(cluster.failures);
            if let Some(seconds) = cluster.next_retry_seconds {
                retry.with_label_values(&[&cluster.name]).set(seconds);
            }
        }
        registry.gather()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_a_cluster_that_went_are_gone() {
        let metrics = crate::metrics::Metrics::new();
        let failing = FailingCluster {
            name: "dev".into(),
            reason: "CreateFailed".into(),
            failures: 3,
            next_retry_seconds: Some(1.8e9),
        };
        let fleet = Fleet {
            states: vec![("present".into(), "failed".into(), 1)],
            failing: vec![failing],
            deletions_held: 7,
            ..Fleet::default()
        };
        let text = metrics.scrape(Some(&fleet));
        assert!(
            text.contains(r#"kindler_clusters{actual="failed",desired="present"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"kindler_clusters{actual="running",desired="absent"} 0"#));
        assert!(text.contains(r#"failures{name="dev",reason="CreateFailed"} 3"#));
        assert!(text.contains("kindler_deletions_held 7"));
        assert!(text.contains("kindler_repairs_held 0"));
        assert!(text.contains(r#"next_retry_timestamp_seconds{name="dev"} 1800000000"#));
        assert!(!metrics.scrape(Some(&Fleet::default())).contains("dev"));
    }
}
