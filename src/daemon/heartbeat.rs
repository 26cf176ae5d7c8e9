//! The heartbeat of a daemon: writes its row in `kindler_replicas`, checks the
//! database and its schema version, and finds expired leases.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::ground::{GroundCheck, lasting};
use super::replicas::{compared, hashed};
use super::state_folder::check_state_folder;
use super::terms::{SeenTerms, report};
use crate::cause::chain;
use crate::clusters::reconcile::SafetyLimits;
use crate::config::HEARTBEAT;
use crate::core::database::DatabaseError;
use crate::core::listener::Listening;
use crate::core::refusals::Refusals;
use crate::core::wakeups::WakeupQueue;
use crate::findings::{Finding, FindingCode};
use crate::http::Readiness;
use crate::metrics::Metrics;
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
    pub(super) metrics: Arc<Metrics>,
    pub(super) state_dir: PathBuf,
    /// The commands by the names of their settings.
    pub(super) scripts: Vec<(&'static str, PathBuf)>,
    // outputs
    pub(super) went_back: watch::Sender<Option<String>>,
    pub(super) database: watch::Sender<Option<String>>,
    pub(super) schema: watch::Sender<Option<String>>,
    pub(super) queue: watch::Sender<Option<String>>,
    pub(super) wakeups: WakeupQueue,
    // internal state
    pub(super) ground: GroundCheck,
    /// The search for expired leases was refused, and that was logged.
    pub(super) search_refused: bool,
    pub(super) next: Beat,
}

/// What a heartbeat checks of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Only its schema version: the first one, which the readiness waits for. The next one follows
    /// at once.
    Short,
    Whole,
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
            if self.beat().await == Beat::Short {
                ticks.reset_immediately();
            }
            let ready = self.vitals.troubles().is_empty();
            if ready && !logged_ready {
                info!("ready");
                logged_ready = true;
            }
        }
    }

    async fn beat(&mut self) -> Beat {
        self.check_host().await;
        let listening = *self.vitals.listening.borrow_and_update() == Listening::Yes;
        // A listener that receives its own notification proves that there is no pooler.
        self.store.set_own_sessions(listening);
        let mut lasting = Vec::new();
        let result = self.write_and_check(listening, &mut lasting).await;
        if result.is_ok() {
            // Also what was refused after the heartbeat was written.
            self.vitals.findings.report("heartbeat", lasting);
        }
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
        std::mem::replace(&mut self.next, Beat::Whole)
    }

    /// Checks the state folder, and reads the scripts, also while there is no database.
    async fn check_host(&mut self) {
        if !self.reconciles {
            return;
        }
        let checked = check_state_folder(&self.state_dir).await;
        let usable = checked.found.is_empty();
        self.metrics.state_folder_usable.set(i64::from(usable));
        self.vitals.findings.report("state folder", checked.found);
        self.me.identity.scripts = hashed(&self.scripts, &self.me.identity.scripts).await;
    }

    /// Compares this daemon with the others.
    async fn compare(&self) -> Result<(), DatabaseError> {
        let replicas = self.store.replicas().await?;
        let found = compared(&self.me.owner, &replicas);
        self.vitals.findings.report("replicas", found);
        Ok(())
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

    /// Each part is done although another one is refused: what lasts becomes a finding. An
    /// error that a restart or another server can mend ends it.
    async fn write_and_check(
        &mut self,
        listening: bool,
        found: &mut Vec<Finding>,
    ) -> Result<(), DatabaseError> {
        let version = self.store.check().await;
        if let Some(version) = self.passing(version, found).await? {
            self.check_schema(version);
        }
        if self.next == Beat::Whole {
            self.check_database(found).await?;
        }
        if !self.reconciles {
            return Ok(());
        }
        let failover = self.terms.failover(self.lease);
        let findings = &self.vitals.findings;
        findings.report("failover", failover.into_iter().collect());
        // Before it is written, so that the first heartbeat after a fault shows it.
        self.vitals.findings.report("heartbeat", found.clone());
        let written = self.write(listening).await;
        self.passing(written, found).await?;
        self.wake_expired().await
    }

    /// Checks what the server holds: objects, privileges, the notification queue, terms, and the
    /// other daemons.
    async fn check_database(&mut self, found: &mut Vec<Finding>) -> Result<(), DatabaseError> {
        let newer = self.vitals.schema.borrow().is_some();
        let checked = self.ground.check(&self.store, newer).await;
        if let Some(checked) = self.passing(checked, found).await? {
            self.metrics.clock_offset(checked.clock_offset);
            self.vitals.findings.report("database", checked.found);
        }
        let queue = self.check_queue().await;
        self.passing(queue, found).await?;
        if !self.reconciles {
            return self.check_daemons(found).await;
        }
        let terms = self.terms.check(&self.store).await;
        if let Some(went_back) = self.passing(terms, found).await?.flatten() {
            self.went_back.send_replace(Some(report(&went_back)));
            // Claims were refused meanwhile.
            self.wakeups.wake_everything();
        }
        let compared = self.compare().await;
        self.passing(compared, found).await?;
        Ok(())
    }

    /// A server of the page alone is no sign that anything works.
    async fn check_daemons(&self, found: &mut Vec<Finding>) -> Result<(), DatabaseError> {
        let fleet = self.store.fleet(HEARTBEAT).await;
        if let Some(fleet) = self.passing(fleet, found).await? {
            let idle = fleet.idle_problem();
            let idle = idle.map(|idle| Finding::new(FindingCode::NoDaemon, idle.what, idle.next));
            let findings = &self.vitals.findings;
            findings.report("daemons", idle.into_iter().collect());
        }
        Ok(())
    }

    /// The value; nothing if an error lasts, which is then a finding.
    async fn passing<T>(
        &self,
        result: Result<T, DatabaseError>,
        found: &mut Vec<Finding>,
    ) -> Result<Option<T>, DatabaseError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.may_pass() => Err(error),
            Err(error) => {
                let finding = lasting(&self.store, &error).await;
                // The same cause refuses more than one statement.
                if !found.iter().any(|one| one.code == finding.code) {
                    found.push(finding);
                }
                Ok(None)
            }
        }
    }

    async fn write(&self, listening: bool) -> Result<(), DatabaseError> {
        let notice = self.vitals.announced().join("; ");
        let notice = (!notice.is_empty()).then_some(notice.as_str());
        let standby = self.vitals.schema.borrow().is_some();
        let suspended = self.limits.findings();
        self.vitals.findings.report("repairs", suspended);
        let findings = self.vitals.findings.list();
        let (me, refused) = (&self.me, self.refusals.oldest(MAX_REFUSED));
        let written = self
            .store
            .heartbeat(me, listening, standby, notice, &refused, &findings);
        written.await
    }

    /// Wakes the clusters whose leases have expired.
    async fn wake_expired(&mut self) -> Result<(), DatabaseError> {
        let expired = match self.store.claims().expired(MAX_EXPIRED).await {
            // Full passes find these rows too, so the daemon works, only later.
            Err(error) if !error.may_pass() => {
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
