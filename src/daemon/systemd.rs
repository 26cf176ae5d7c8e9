//! What systemd is told: ready, what is waited for, alive, ending.
//!
//! The watchdog hears only what was proven since the last time: the
//! controller's loop answered a ping to its wake-up queue, and heartbeat and
//! listener still run. A process whose threads turn but whose work stands
//! still is thereby restarted. Outside systemd all of this says nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::HEARTBEAT;
use crate::core::wakeups::WakeupQueue;
use crate::http::Readiness;

/// So long the service counts as starting while it is not ready; then it is up
/// and waits, its status line says for what, and a start does not fail for a
/// database that is down.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// Several looks fit into the watchdog's time, so that one answer that comes
/// late kills nobody.
const LOOKS_PER_WATCHDOG: u32 = 4;

/// Where messages go.
type Tell = Box<dyn Fn(&[NotifyState<'_>]) + Send + Sync>;

/// Tells systemd how the daemon is.
pub(super) struct Systemd {
    // inputs
    vitals: Readiness,
    wakeups: WakeupQueue,
    /// How long an orderly end may take.
    ends_within: Duration,
    every: Duration,
    // outputs
    tell: Tell,
    // internal state
    began: Instant,
    told_ready: bool,
    status: String,
}

impl Systemd {
    /// Talks to the socket that systemd named, if it did.
    pub(super) fn new(vitals: Readiness, wakeups: WakeupQueue, ends_within: Duration) -> Self {
        let every = sd_notify::watchdog_enabled().map_or(HEARTBEAT, |within| {
            (within / LOOKS_PER_WATCHDOG).min(HEARTBEAT)
        });
        let tell: Tell = Box::new(|states| {
            // Nobody is there to be told that nobody listens.
            let _ = sd_notify::notify(states);
        });
        Self::telling(vitals, wakeups, ends_within, every, tell)
    }

    fn telling(
        vitals: Readiness,
        wakeups: WakeupQueue,
        ends_within: Duration,
        every: Duration,
        tell: Tell,
    ) -> Self {
        Self {
            vitals,
            wakeups,
            ends_within,
            every: every.max(Duration::from_millis(1)),
            tell,
            began: Instant::now(),
            told_ready: false,
            status: String::new(),
        }
    }

    /// Tells until `ended`, also while the daemon ends.
    pub(super) async fn run(mut self, shutdown: CancellationToken, ended: CancellationToken) {
        let mut looks = interval(self.every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut parts_run = true;
        self.wakeups.ping();
        loop {
            let mut look = false;
            tokio::select! {
                _ = looks.tick() => look = true,
                still = changed(&mut self.vitals.database), if parts_run => parts_run = still,
                still = changed(&mut self.vitals.listening), if parts_run => parts_run = still,
                () = shutdown.cancelled() => break,
            }
            self.tell_state();
            if look && parts_run && self.wakeups.answered() {
                (self.tell)(&[NotifyState::Watchdog]);
                self.wakeups.ping();
            }
        }
        self.tell_end();
        // Nobody answers a knock any more; the end has a deadline of its own.
        loop {
            tokio::select! {
                _ = looks.tick() => (self.tell)(&[NotifyState::Watchdog]),
                () = ended.cancelled() => return,
            }
        }
    }

    fn tell_state(&mut self) {
        let troubles = self.vitals.troubles();
        if !self.told_ready && (troubles.is_empty() || self.began.elapsed() >= STARTS_WITHIN) {
            (self.tell)(&[NotifyState::Ready]);
            self.told_ready = true;
        }
        let status = if troubles.is_empty() {
            let notices = self.vitals.notices();
            ["ready"]
                .into_iter()
                .chain(notices.iter().map(String::as_str))
                .collect::<Vec<_>>()
                .join("; ")
        } else {
            format!("not ready: {}", troubles.join("; "))
        };
        // A message is made of lines.
        let status = status.replace(char::is_control, " ");
        if status != self.status {
            (self.tell)(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// Running work gets the time that the settings give it, whatever the unit
    /// says.
    fn tell_end(&self) {
        let micros = u32::try_from(self.ends_within.as_micros()).unwrap_or(u32::MAX);
        (self.tell)(&[
            NotifyState::Stopping,
            NotifyState::Status("ending"),
            NotifyState::ExtendTimeoutUsec(micros),
        ]);
    }
}

/// Waits for a change; `false` when whoever made the changes is gone.
async fn changed<T>(seen: &mut watch::Receiver<T>) -> bool {
    seen.changed().await.is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::core::listener::Listening;

    const EVERY: Duration = Duration::from_millis(100);

    /// A daemon's parts, as far as systemd hears of them.
    struct Scene {
        told: Arc<Mutex<Vec<String>>>,
        database: watch::Sender<Option<String>>,
        listening: watch::Sender<Listening>,
        _schema: watch::Sender<Option<String>>,
        wakeups: WakeupQueue,
        shutdown: CancellationToken,
        ended: CancellationToken,
    }

    impl Scene {
        fn begin() -> Self {
            let (database, database_seen) = watch::channel(Some("not\nthere".to_owned()));
            let (listening, listening_seen) = watch::channel(Listening::Yes);
            let (schema, schema_seen) = watch::channel(None);
            let vitals = Readiness {
                database: database_seen,
                listening: listening_seen,
                schema: schema_seen,
            };
            let told = Arc::new(Mutex::new(Vec::new()));
            let heard = told.clone();
            let tell: Tell = Box::new(move |states| {
                heard
                    .lock()
                    .unwrap()
                    .extend(states.iter().map(ToString::to_string));
            });
            let scene = Self {
                told,
                database,
                listening,
                _schema: schema,
                wakeups: WakeupQueue::default(),
                shutdown: CancellationToken::new(),
                ended: CancellationToken::new(),
            };
            let bound = Duration::from_secs(25);
            let systemd = Systemd::telling(vitals, scene.wakeups.clone(), bound, EVERY, tell);
            tokio::spawn(systemd.run(scene.shutdown.clone(), scene.ended.clone()));
            scene
        }

        /// What was told during some looks.
        async fn hears(&self, looks: u32) -> Vec<String> {
            self.told.lock().unwrap().clear();
            tokio::time::sleep(EVERY * looks).await;
            self.told.lock().unwrap().clone()
        }
    }

    fn count(told: &[String], word: &str) -> usize {
        told.iter().filter(|line| *line == word).count()
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_is_told_once_at_once_or_when_the_wait_is_long() {
        let scene = Scene::begin();
        let told = scene.hears(3).await;
        assert_eq!(told[0], "STATUS=not ready: database: not there");
        assert_eq!(count(&told, "READY=1"), 0);
        assert_eq!(count(&scene.hears(100).await, "READY=1"), 1);
        scene.database.send_replace(None);
        let told = scene.hears(3).await;
        assert_eq!(count(&told, "STATUS=ready"), 1);
        assert_eq!(count(&told, "READY=1"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_hears_nothing_of_a_loop_that_stands_still() {
        let scene = Scene::begin();
        // Nobody waits at the wakeups.
        assert_eq!(count(&scene.hears(20).await, "WATCHDOG=1"), 0);
        let wakeups = scene.wakeups.clone();
        let turning = tokio::spawn(async move { wakeups.drain().await });
        assert!(count(&scene.hears(20).await, "WATCHDOG=1") >= 18);
        turning.abort();
        assert!(count(&scene.hears(20).await, "WATCHDOG=1") <= 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nor_of_a_daemon_that_lost_a_part() {
        for lose in [
            (|scene: &mut Scene| scene.database = watch::channel(None).0) as fn(&mut Scene),
            |scene: &mut Scene| scene.listening = watch::channel(Listening::Yes).0,
        ] {
            let mut scene = Scene::begin();
            let wakeups = scene.wakeups.clone();
            tokio::spawn(async move { wakeups.drain().await });
            assert!(count(&scene.hears(20).await, "WATCHDOG=1") >= 18);
            lose(&mut scene);
            assert!(count(&scene.hears(20).await, "WATCHDOG=1") <= 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_gets_its_time_and_is_not_taken_for_a_standstill() {
        let scene = Scene::begin();
        scene.hears(1).await;
        scene.shutdown.cancel();
        let told = scene.hears(20).await;
        for word in ["STOPPING=1", "EXTEND_TIMEOUT_USEC=25000000"] {
            assert_eq!(count(&told, word), 1, "{told:?}");
        }
        assert!(count(&told, "WATCHDOG=1") >= 18, "{told:?}");
        scene.ended.cancel();
        scene.hears(1).await;
        assert!(scene.hears(5).await.is_empty());
    }
}
