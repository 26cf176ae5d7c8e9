//! The daemon's pulse: says in the database that it is here, hears whether the
//! database serves and with which schema, notices leases that nobody renews, and tells systemd.

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cause::chain;
use crate::config::HEARTBEAT;
use crate::core::database::DatabaseError;
use crate::core::listener::Listening;
use crate::core::wakeups::WakeupQueue;
use crate::http::Readiness;
use crate::store::{Replica, Store, newer_schema};

/// So many expired leases are rung for in one beat.
const EXPIRED_AT_ONCE: i64 = 1000;

/// What one beat reads and writes.
pub(super) struct Heartbeat {
    // inputs
    pub(super) store: Store,
    pub(super) me: Replica,
    pub(super) vitals: Readiness,
    /// Whether this daemon reconciles, and so belongs on the list of those that do.
    pub(super) reconciles: bool,
    // outputs
    pub(super) database: watch::Sender<Option<String>>,
    pub(super) schema: watch::Sender<Option<String>>,
    pub(super) wakeups: WakeupQueue,
}

impl Heartbeat {
    /// Beats until `shutdown`, then takes this daemon off the list.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut ticks = interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told_ready = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // A listener that comes or goes is told at once; one that ended ends this.
                changed = self.vitals.listening.changed() => if changed.is_err() { break },
                () = shutdown.cancelled() => break,
            }
            self.beat().await;
            let ready = self.vitals.troubles().is_empty();
            if ready && !told_ready {
                info!("ready");
                told_ready = true;
            }
        }
    }

    async fn beat(&mut self) {
        let listening = *self.vitals.listening.borrow_and_update() == Listening::Yes;
        // Hearing oneself is the proof that no pooler stands between.
        self.store.set_own_sessions(listening);
        let beaten = self.announce_and_look(listening).await;
        let trouble = beaten.err().map(|error| chain(&error));
        self.database.send_if_modified(|was| {
            let changed = was.is_some() != trouble.is_some();
            match &trouble {
                Some(why) if changed => warn!(reason = why, "the database does not serve"),
                None if changed => info!("the database serves"),
                Some(_) | None => {}
            }
            *was = trouble;
            changed
        });
    }

    /// Stands aside while a later release owns the schema, and goes on when it
    /// was rolled back.
    fn heed_schema(&self, version: i32) {
        let newer = newer_schema(version).map(|error| error.to_string());
        let changed = self.schema.send_if_modified(|was| {
            let changed = *was != newer;
            was.clone_from(&newer);
            changed
        });
        match newer {
            Some(why) if changed => warn!(reason = why, "nothing new is begun"),
            None if changed => {
                info!("the schema is one that this release knows: work goes on");
                self.wakeups.wake_everything();
            }
            Some(_) | None => {}
        }
    }

    async fn announce_and_look(&self, listening: bool) -> Result<(), DatabaseError> {
        self.heed_schema(self.store.check().await?);
        if !self.reconciles {
            return Ok(());
        }
        let notice = self.vitals.announced().join("; ");
        let notice = (!notice.is_empty()).then_some(notice.as_str());
        let aside = self.vitals.schema.borrow().is_some();
        let said = self.store.announce(&self.me, listening, aside, notice);
        said.await?;
        for name in self.store.claims().expired(EXPIRED_AT_ONCE).await? {
            self.wakeups.wake(&name);
        }
        Ok(())
    }
}
