//! The families about clusters, rebuilt from the rows at each scrape.
//!
//! Nothing is stored between scrapes, so the series of a removed cluster always end
//! with it. Every pair of states is exported, with 0 if no cluster has it.

use std::collections::BTreeMap;

use super::catalogue as names;
use super::text::Text;
use crate::clusters::{Actual, ConditionStatus, ConditionType, Desired, Provider};
use crate::core::metrics::Family;
use crate::core::steps::StepState;
use crate::store::{ClusterSample, FactKind, FailingSample, FleetFact, NotificationQueue};

/// What one scrape exports about all clusters, the failing ones, and the daemons.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// Daemons that reconcile, and daemons on standby.
    pub replicas: (i64, i64),
    /// Number of clusters in each pair of desired and actual state.
    pub states: Vec<(Desired, Actual, i64)>,
    /// Failing clusters; the reader limits their number.
    pub failing: Vec<FailingSample>,
    /// Whether to export here whether failing clusters are paused, because the
    /// series of each cluster are off. A pause silences the alerts of a cluster.
    pub shows_pauses: bool,
    /// Deletions deferred by the cap.
    pub deletions_deferred: i64,
    /// Repairs deferred until most clusters are healthy again.
    pub repairs_deferred: i64,
    /// Clusters that no daemon selects.
    pub unselected: i64,
    /// The server's notification queue.
    pub notification_queue: NotificationQueue,
    /// Number of clusters by driver, step and step state.
    pub steps: Vec<(String, String, StepState, i64)>,
    /// Replicas, their settings, tables, positions, failed steps and drifts.
    pub facts: Vec<FleetFact>,
}

/// The value of one series of a state set.
fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn family_of(kind: FactKind) -> &'static Family {
    match kind {
        FactKind::Replica => &names::REPLICA_INFO,
        FactKind::Setting => &names::REPLICA_SETTING_INFO,
        FactKind::Table => &names::TABLE_BYTES,
        FactKind::Position => &names::CLUSTER_QUEUE_POSITION,
        FactKind::FailedStep => &names::CLUSTER_STEP_FAILED,
        FactKind::Lost => &names::CLUSTER_RECENT_DRIFTS,
    }
}

impl Fleet {
    /// The text of these families.
    pub fn render(&self) -> String {
        let mut text = Text::default();
        self.counts(&mut text);
        self.steps(&mut text);
        self.facts(&mut text);
        self.failing(&mut text);
        text.finish()
    }

    fn counts(&self, text: &mut Text) {
        let mut replicas = text.family(&names::REPLICAS);
        replicas.set(&["true"], self.replicas.0 as f64);
        replicas.set(&["false"], self.replicas.1 as f64);
        let mut counts = BTreeMap::new();
        for desired in Desired::ALL {
            for actual in Actual::ALL {
                counts.insert((*desired, *actual), 0);
            }
        }
        for (desired, actual, count) in &self.states {
            *counts.entry((*desired, *actual)).or_default() += count;
        }
        let mut clusters = text.family(&names::CLUSTERS);
        for ((desired, actual), count) in counts {
            clusters.set(&[desired.as_str(), actual.as_str()], count as f64);
        }
        for (family, value) in [
            (&names::DELETIONS_DEFERRED, self.deletions_deferred as f64),
            (&names::DELETIONS_HELD, self.deletions_deferred as f64),
            (&names::REPAIRS_DEFERRED, self.repairs_deferred as f64),
            (&names::REPAIRS_HELD, self.repairs_deferred as f64),
            (&names::CLUSTERS_UNSELECTED, self.unselected as f64),
            (
                &names::DB_NOTIFICATION_QUEUE_USAGE_RATIO,
                self.notification_queue.usage,
            ),
        ] {
            text.family(family).set(&[], value);
        }
        let mut blockers = text.family(&names::DB_NOTIFICATION_QUEUE_BLOCKED_SINCE);
        if let Some(blocker) = &self.notification_queue.blocker {
            let labels = [&*blocker.pid.to_string(), &*blocker.application];
            blockers.set(&labels, blocker.since.as_duration().as_secs_f64());
        }
    }

    /// Every state of each step that is recorded for a cluster.
    fn steps(&self, text: &mut Text) {
        let mut counts = BTreeMap::<_, [i64; StepState::ALL.len()]>::new();
        for (driver, step, state, clusters) in &self.steps {
            let of_step = counts.entry((driver, step)).or_default();
            for (count, of) in of_step.iter_mut().zip(StepState::ALL.iter().copied()) {
                *count += if of == *state { *clusters } else { 0 };
            }
        }
        let mut family = text.family(&names::STEP_STATE);
        for ((driver, step), of_step) in counts {
            for (count, state) in of_step.into_iter().zip(StepState::ALL.iter().copied()) {
                family.set(&[driver, step, state.as_str()], count as f64);
            }
        }
    }

    fn facts(&self, text: &mut Text) {
        for kind in FactKind::ALL {
            let mut series = text.family(family_of(*kind));
            for fact in self.facts.iter().filter(|fact| fact.kind == *kind) {
                let labels: Vec<&str> = fact.labels.iter().map(String::as_str).collect();
                series.set(&labels, fact.value);
            }
        }
    }

    fn failing(&self, text: &mut Text) {
        let mut failures = text.family(&names::CLUSTER_CONSECUTIVE_FAILURES);
        for cluster in &self.failing {
            failures.set(&[&cluster.name], f64::from(cluster.failed_attempts));
        }
        let mut flaps = text.family(&names::CLUSTER_FLAPS);
        for cluster in self.failing.iter().filter(|cluster| cluster.flaps > 0) {
            flaps.set(&[&cluster.name], f64::from(cluster.flaps));
        }
        let mut reasons = text.family(&names::CLUSTER_STATUS_REASON);
        for cluster in &self.failing {
            if let Some(reason) = cluster.reason {
                reasons.set(&[&cluster.name, reason.as_str()], 1.0);
            }
        }
        let mut retries = text.family(&names::CLUSTER_NEXT_RETRY_TIMESTAMP_SECONDS);
        for cluster in &self.failing {
            if let Some(seconds) = cluster.next_attempt {
                retries.set(&[&cluster.name], seconds);
            }
        }
        if self.shows_pauses {
            let mut paused = text.family(&names::CLUSTER_SPEC_PAUSED);
            for cluster in &self.failing {
                paused.set(&[&cluster.name], flag(cluster.paused));
            }
        }
    }
}

/// The text of the families of each cluster.
pub fn render_clusters(clusters: &[ClusterSample]) -> String {
    let mut text = Text::default();
    declared(clusters, &mut text);
    states(clusters, &mut text);
    times(clusters, &mut text);
    text.finish()
}

fn declared(clusters: &[ClusterSample], text: &mut Text) {
    let mut info = text.family(&names::CLUSTER_INFO);
    for cluster in clusters {
        let provider = cluster.provider.map_or("invalid", Provider::as_str);
        let desired = cluster
            .condition_inputs
            .map_or("invalid", |s| s.desired.as_str());
        info.set(&[&cluster.name, provider, desired], 1.0);
    }
    let mut paused = text.family(&names::CLUSTER_SPEC_PAUSED);
    for cluster in clusters {
        paused.set(&[&cluster.name], flag(cluster.paused));
    }
}

fn states(clusters: &[ClusterSample], text: &mut Text) {
    let mut phases = text.family(&names::CLUSTER_STATUS_PHASE);
    for cluster in clusters {
        for phase in Actual::ALL {
            let holds = cluster.condition_inputs.is_some_and(|s| s.actual == *phase);
            phases.set(&[&cluster.name, phase.as_str()], flag(holds));
        }
    }
    let mut conditions = text.family(&names::CLUSTER_STATUS_CONDITION);
    for cluster in clusters {
        for &condition in ConditionType::ALL {
            // The conditions of an unreadable row are unknown.
            let current = cluster
                .condition_inputs
                .map_or(ConditionStatus::Unknown, |s| s.condition(condition));
            // They are rare; three series of each cluster without them would fill the scrape.
            let rare = [ConditionType::Flapping, ConditionType::NeedsRecreation];
            if rare.contains(&condition) && current == ConditionStatus::False {
                continue;
            }
            for &status in ConditionStatus::ALL {
                let labels = [cluster.name.as_str(), condition.as_str(), status.as_str()];
                conditions.set(&labels, flag(status == current));
            }
        }
    }
}

fn times(clusters: &[ClusterSample], text: &mut Text) {
    type Time = fn(&ClusterSample) -> Option<f64>;
    let families: [(_, Time); 5] = [
        (&names::CLUSTER_CREATED, |cluster| cluster.created),
        (&names::CLUSTER_DECLARED_TIMESTAMP_SECONDS, |cluster| {
            cluster.declared
        }),
        (
            &names::CLUSTER_LAST_RECONCILE_TIMESTAMP_SECONDS,
            |cluster| cluster.reconciled,
        ),
        (&names::CLUSTER_LAST_RECONCILE_AGE_SECONDS, |cluster| {
            cluster.reconciled_age
        }),
        (&names::CLUSTER_HEALTH_FAILURES, |cluster| {
            Some(cluster.health_failures)
        }),
    ];
    for (family, time) in families {
        let mut series = text.family(family);
        for cluster in clusters {
            if let Some(seconds) = time(cluster) {
                series.set(&[&cluster.name], seconds);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;
    use crate::clusters::ConditionInputs;
    use crate::clusters::event::Reason;
    use crate::store::QueueBlocker;

    /// A fleet with one cluster, `dev`, that failed three times.
    pub(in super::super) fn fleet() -> Fleet {
        Fleet {
            replicas: (2, 1),
            states: vec![(Desired::Present, Actual::Failed, 1)],
            failing: vec![FailingSample {
                name: "dev".into(),
                reason: Some(Reason::CreateFailed),
                flaps: 3,
                failed_attempts: 3,
                next_attempt: Some(1.8e9),
                paused: false,
            }],
            deletions_deferred: 7,
            notification_queue: NotificationQueue {
                usage: 0.95,
                nearly_full: true,
                blocker: Some(QueueBlocker {
                    pid: 12,
                    application: "psql".into(),
                    user: "ada".into(),
                    since: jiff::Timestamp::UNIX_EPOCH,
                }),
            },
            steps: vec![("sandbox".into(), "port".into(), StepState::Failed, 1)],
            facts: FactKind::ALL.iter().map(|kind| fact(*kind)).collect(),
            ..Fleet::default()
        }
    }

    fn fact(kind: FactKind) -> FleetFact {
        let labels = family_of(kind).labels.iter();
        FleetFact {
            kind,
            labels: labels.map(|label| format!("a {label}")).collect(),
            value: 1.0,
        }
    }

    /// The cluster of [`fleet`].
    pub(in super::super) fn clusters() -> Vec<ClusterSample> {
        vec![ClusterSample {
            name: "dev".into(),
            provider: Some(Provider::Kind),
            condition_inputs: Some(ConditionInputs {
                desired: Desired::Present,
                actual: Actual::Failed,
                reason: Some(Reason::CreateFailed),
                settled: false,
                observe_only: false,
                flapping: false,
                steps_left: true,
            }),
            paused: false,
            created: Some(1.7e9),
            declared: Some(1.75e9),
            reconciled: Some(1.76e9),
            reconciled_age: Some(60.0),
            health_failures: 2.0,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(text: &str, line: &str) {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is missing in\n{text}"
        );
    }

    #[test]
    fn every_family_of_an_existing_cluster_is_exported() {
        let text = samples::fleet().render() + &render_clusters(&samples::clusters());
        for line in [
            r#"kindler_replicas{reconciles="true"} 2"#,
            r#"kindler_replicas{reconciles="false"} 1"#,
            r#"kindler_clusters{desired="present",actual="failed"} 1"#,
            r#"kindler_clusters{desired="absent",actual="running"} 0"#,
            "kindler_deletions_deferred 7",
            "kindler_deletions_held 7",
            "kindler_repairs_deferred 0",
            "kindler_repairs_held 0",
            "kindler_db_notification_queue_usage_ratio 0.95",
            r#"kindler_db_notification_queue_blocked_since_timestamp_seconds{pid="12",application="psql"} 0"#,
            r#"kindler_cluster_consecutive_failures{name="dev"} 3"#,
            r#"kindler_cluster_status_reason{name="dev",reason="CreateFailed"} 1"#,
            r#"kindler_cluster_next_retry_timestamp_seconds{name="dev"} 1800000000"#,
            r#"kindler_cluster_info{name="dev",provider="kind",desired="present"} 1"#,
            r#"kindler_cluster_status_phase{name="dev",phase="failed"} 1"#,
            r#"kindler_cluster_status_phase{name="dev",phase="running"} 0"#,
            r#"kindler_cluster_status_condition{name="dev",type="Ready",status="false"} 1"#,
            r#"kindler_cluster_status_condition{name="dev",type="Ready",status="true"} 0"#,
            r#"kindler_cluster_spec_paused{name="dev"} 0"#,
            r#"kindler_step_state{driver="sandbox",step="port",state="failed"} 1"#,
            r#"kindler_step_state{driver="sandbox",step="port",state="done"} 0"#,
            r#"kindler_cluster_step_failed{name="a name",step="a step"} 1"#,
            r#"kindler_cluster_last_reconcile_age_seconds{name="dev"} 60"#,
            r#"kindler_cluster_health_failures{name="dev"} 2"#,
        ] {
            has(&text, line);
        }
        assert!(!Fleet::default().render().contains("dev"));
    }

    #[test]
    fn an_unreadable_row_has_unknown_conditions() {
        let mut clusters = samples::clusters();
        clusters[0].provider = None;
        clusters[0].condition_inputs = None;
        let text = render_clusters(&clusters);
        has(
            &text,
            r#"kindler_cluster_info{name="dev",provider="invalid",desired="invalid"} 1"#,
        );
        has(
            &text,
            r#"kindler_cluster_status_condition{name="dev",type="Ready",status="unknown"} 1"#,
        );
        has(
            &text,
            r#"kindler_cluster_status_phase{name="dev",phase="failed"} 0"#,
        );
    }
}
