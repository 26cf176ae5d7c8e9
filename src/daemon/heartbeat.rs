//! The heartbeat of a daemon: writes its row in `kindler_replicas`, checks the
//! database and its schema version, and finds expired leases.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::terms::{SeenTerms, report};
use crate::cause::chain;
use crate::clusters::reconcile::SafetyLimits;
use crate::config::HEARTBEAT;
use crate::core::database::DatabaseError;
use crate::core::listener::Listening;
use crate::core::refusals::Refusals;
use crate::core::wakeups::WakeupQueue;
use crate::http::Readiness;
use crate::store::{Replica, Store, newer_schema};

/// The largest number of expired leases that one heartbeat handles.
const MAX_EXPIRED: i64 = 1000;

/// The largest number of refused clusters in one heartbeat.
const MAX_REFUSED: usize = 50;

/// The inputs and outputs of the heartbeat.
pub(super) struct Heartbeat {
    // inputs
    pub(super) store: Store,
    pub(super) me: Replica,
    pub(super) vitals: Readiness,
    /// Whether this daemon reconciles, and so has a row in `kindler_replicas`.
    pub(super) reconciles: bool,
    /// The clusters whose writes the database refuses.
    pub(super) refusals: Refusals,
    /// Of a daemon that reconciles.
    pub(super) terms: SeenTerms,
    /// The safety limits of the reconciler.
    pub(super) limits: Arc<SafetyLimits>,
    /// The lifetime of its leases.
    pub(super) lease: Duration,
    // outputs
    pub(super) went_back: watch::Sender<Option<String>>,
    pub(super) database: watch::Sender<Option<String>>,
    pub(super) schema: watch::Sender<Option<String>>,
    pub(super) queue: watch::Sender<Option<String>>,
    pub(super) wakeups: WakeupQueue,
    // internal state
    /// The search for expired leases was refused, and that was logged.
    pub(super) search_refused: bool,
}

impl Heartbeat {
    /// Runs until `shutdown`.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        // The first one is written when the listener reports, which is sooner.
        let mut ticks = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut logged_ready = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // A change of the listener is written at once. The end of the listener ends this.
                changed = self.vitals.listening.changed() => if changed.is_err() { break },
                () = shutdown.cancelled() => break,
            }
            self.beat().await;
            let ready = self.vitals.troubles().is_empty();
            if ready && !logged_ready {
                info!("ready");
                logged_ready = true;
            }
        }
    }

    async fn beat(&mut self) {
        let listening = *self.vitals.listening.borrow_and_update() == Listening::Yes;
        // A listener that receives its own notification proves that there is no pooler.
        self.store.set_own_sessions(listening);
        let result = self.write_and_check(listening).await;
        let trouble = result.err().map(|error| chain(&error));
        self.database.send_if_modified(|was| {
            let changed = was.is_some() != trouble.is_some();
            match &trouble {
                Some(why) if changed => warn!(reason = why, "the database is unavailable"),
                None if changed => info!("the database is available"),
                Some(_) | None => {}
            }
            *was = trouble;
            changed
        });
    }

    /// Puts this daemon on standby while the schema is newer than this release, and
    /// back to work after a rollback of the schema.
    fn check_schema(&self, version: i32) {
        let newer = newer_schema(version).map(|error| error.to_string());
        let changed = self.schema.send_if_modified(|was| {
            let changed = *was != newer;
            was.clone_from(&newer);
            changed
        });
        match newer {
            Some(why) if changed => warn!(reason = why, "on standby: no work is started"),
            None if changed => {
                info!("this release supports the schema again: standby ends");
                self.wakeups.wake_everything();
            }
            Some(_) | None => {}
        }
    }

    /// Reports a queue that fills up. While it is nearly full, triggers send nothing: then
    /// each heartbeat searches for changes.
    async fn check_queue(&self) -> Result<(), DatabaseError> {
        let queue = self.store.notification_queue().await?;
        let notice = queue.notice();
        if let Some(why) = &notice
            && self.queue.borrow().is_none()
        {
            warn!(reason = why, "the notification queue fills up");
        }
        self.queue.send_if_modified(|was| {
            let changed = *was != notice;
            *was = notice;
            changed
        });
        if queue.nearly_full {
            self.wakeups.wake_everything();
        }
        Ok(())
    }

    async fn write_and_check(&mut self, listening: bool) -> Result<(), DatabaseError> {
        self.check_schema(self.store.check().await?);
        self.check_queue().await?;
        if !self.reconciles {
            return Ok(());
        }
        if let Some(went_back) = self.terms.check(&self.store).await? {
            self.went_back.send_replace(Some(report(&went_back)));
            // Claims were refused meanwhile.
            self.wakeups.wake_everything();
        }
        let failover = self.terms.failover(self.lease);
        let findings = &self.vitals.findings;
        findings.report("failover", failover.into_iter().collect());
        let notice = self.vitals.announced().join("; ");
        let notice = (!notice.is_empty()).then_some(notice.as_str());
        let standby = self.vitals.schema.borrow().is_some();
        let suspended = self.limits.finding().into_iter().collect();
        self.vitals.findings.report("repairs", suspended);
        let findings = self.vitals.findings.list();
        let (me, refused) = (&self.me, self.refusals.oldest(MAX_REFUSED));
        let written = self
            .store
            .heartbeat(me, listening, standby, notice, &refused, &findings);
        written.await?;
        let expired = match self.store.claims().expired(MAX_EXPIRED).await {
            // Full passes find these rows too, so the daemon works, only later.
            Err(error) if error.is_refusal() => {
                if !std::mem::replace(&mut self.search_refused, true) {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, "expired leases cannot be searched");
                }
                return Ok(());
            }
            expired => expired?,
        };
        self.search_refused = false;
        for name in expired {
            // A refused release lets leases expire; that must not shorten the delay.
            if self.refusals.until(&name).is_none() {
                self.wakeups.wake(&name);
            }
        }
        Ok(())
    }
}
