//! Reports clusters of this host that no row names any more although they were not declared
//! absent: a DELETE while the triggers were off takes only the row. They are not touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::clusters::{Cluster, ClusterName, Provider};
use crate::config::HEARTBEAT;
use crate::core::database::DatabaseError;
use crate::drivers::Driver;
use crate::findings::{Finding, FindingCode, Findings};
use crate::store::Store;

/// The time between two looks at clusters whose rows have gone.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How many clusters are observed at once.
const OBSERVED_AT_ONCE: usize = 4;
/// How many are observed in one look.
const OBSERVED: usize = 64;
/// How many a finding names.
const NAMED: usize = 5;

/// The search of one daemon.
pub(super) struct RowlessClusters {
    // inputs
    store: Store,
    driver: Arc<dyn Driver>,
    findings: Findings,
    // internal state
    /// [`Store::removals`] at the last search.
    removals: Option<Option<String>>,
    /// What may exist without a row.
    suspects: BTreeMap<(ClusterName, Provider), Seen>,
    look_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    NotYet,
    Exists,
    Absent,
}

impl RowlessClusters {
    pub(super) fn new(store: Store, driver: Arc<dyn Driver>, findings: Findings) -> Self {
        Self {
            store,
            driver,
            findings,
            removals: None,
            suspects: BTreeMap::new(),
            look_at: Instant::now(),
        }
    }

    /// Searches until `shutdown`. What cannot be read is read again at the next tick.
    pub(super) async fn report(mut self, shutdown: CancellationToken) {
        let mut failed = false;
        let mut ticks = interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            match shutdown.run_until_cancelled(self.search()).await {
                Some(Err(error)) if !error.may_pass() && !failed => {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, "clusters without a row cannot be searched");
                    failed = true;
                }
                Some(Ok(())) => failed = false,
                Some(Err(_)) | None => {}
            }
        }
    }

    async fn search(&mut self) -> Result<(), DatabaseError> {
        // All that ever had a row, at start and when rows were deleted; else what is suspected.
        let removals = self.store.removals().await?;
        let suspected: Option<Vec<&str>> = (self.removals == Some(removals.clone())).then(|| {
            self.suspects
                .keys()
                .map(|(name, _)| name.as_str())
                .collect()
        });
        let vanished = self.store.vanished(suspected.as_deref()).await;
        if vanished.is_ok() || self.removals.is_none() {
            // The history of very many names takes too long to read at start: what goes from now on.
            self.removals = Some(removals);
        }
        let vanished = vanished?;
        let before = std::mem::take(&mut self.suspects);
        for (name, provider) in vanished {
            let Ok(name) = ClusterName::parse(&name) else {
                continue;
            };
            let providers = provider.map_or(Provider::ALL.to_vec(), |one| vec![one]);
            for provider in providers {
                let suspect = (name.clone(), provider);
                let seen = before.get(&suspect).copied();
                if seen.is_none() {
                    self.look_at = Instant::now();
                }
                self.suspects.insert(suspect, seen.unwrap_or(Seen::NotYet));
            }
        }
        if Instant::now() >= self.look_at {
            self.look_at = Instant::now() + LOOK_EVERY;
            self.look().await;
        }
        let finding = finding(&self.suspects, &*self.driver);
        self.findings
            .report("clusters without a row", finding.into_iter().collect());
        Ok(())
    }

    /// Observes the suspects; those that do not exist on this host are none.
    async fn look(&mut self) {
        // What is not here does not come back without a row.
        let here = self
            .suspects
            .iter()
            .filter(|(_, seen)| **seen != Seen::Absent);
        let suspects: Vec<_> = here
            .map(|(suspect, _)| suspect.clone())
            .take(OBSERVED)
            .collect();
        for some in suspects.chunks(OBSERVED_AT_ONCE) {
            let observed = some.iter().map(async |(name, provider)| {
                let cluster = Cluster::undeclared(name.clone(), *provider);
                self.driver.exists(&cluster).await
            });
            let observed = join_all(observed).await;
            for (suspect, exists) in some.iter().zip(observed) {
                match exists {
                    Some(true) => self.suspects.insert(suspect.clone(), Seen::Exists),
                    Some(false) => self.suspects.insert(suspect.clone(), Seen::Absent),
                    // It is observed again.
                    None => None,
                };
            }
        }
    }
}

fn finding(
    suspects: &BTreeMap<(ClusterName, Provider), Seen>,
    driver: &dyn Driver,
) -> Option<Finding> {
    let exist = suspects
        .iter()
        .filter(|(_, seen)| **seen == Seen::Exists)
        .map(|((name, provider), _)| Cluster::undeclared(name.clone(), *provider));
    let exist: Vec<Cluster> = exist.collect();
    if exist.is_empty() {
        return None;
    }
    let joined = |text: &dyn Fn(&Cluster) -> String, between| {
        let texts: Vec<String> = exist.iter().take(NAMED).map(text).collect();
        texts.join(between)
    };
    let more = match exist.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = joined(&|one| format!("{} ({})", one.name, one.spec.provider), ", ");
    let removals = joined(&|one| driver.removal(one), "; ");
    Some(Finding::new(
        FindingCode::ClustersWithoutRow,
        format!(
            "clusters on this host have no row, although they were not declared absent: {named}{more}; \
             they are not touched"
        ),
        format!(
            "to remove them: {removals}; to keep them: kindler create with the same name, then kindler adopt"
        ),
    ))
}
