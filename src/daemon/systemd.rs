//! Notifies systemd: ready, status, watchdog, stopping.
//!
//! The watchdog is notified only after a proof of progress since the last time: the
//! controller's loop answered a ping to its wake-up queue, and heartbeat and
//! listener still run. So systemd restarts a process whose work has stopped although
//! its threads run. Outside systemd nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::HEARTBEAT;
use crate::core::wakeups::WakeupQueue;
use crate::http::Readiness;

/// A service that is not ready by then still counts as started, so that a start does
/// not fail because the database is down. The status line says what it waits for.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Checks per watchdog interval: one late answer must not cause a restart.
const CHECKS_PER_WATCHDOG: u32 = 4;

/// Sends messages to systemd.
type Notify = Box<dyn Fn(&[NotifyState<'_>]) + Send + Sync>;

/// Notifies systemd of the daemon's state.
pub(super) struct Systemd {
    // inputs
    vitals: Readiness,
    wakeups: WakeupQueue,
    /// Upper bound of an orderly shutdown.
    stop_bound: Duration,
    every: Duration,
    // outputs
    send: Notify,
    // internal state
    began: Instant,
    sent_ready: bool,
    status: String,
}

impl Systemd {
    /// Sends to the socket of systemd, if there is one.
    pub(super) fn new(vitals: Readiness, wakeups: WakeupQueue, stop_bound: Duration) -> Self {
        let every = sd_notify::watchdog_enabled().map_or(HEARTBEAT, |within| {
            (within / CHECKS_PER_WATCHDOG).min(HEARTBEAT)
        });
        let send: Notify = Box::new(|states| {
            // Ignores send errors: without systemd there is no receiver.
            let _ = sd_notify::notify(states);
        });
        Self::sending_to(vitals, wakeups, stop_bound, every, send)
    }

    fn sending_to(
        vitals: Readiness,
        wakeups: WakeupQueue,
        stop_bound: Duration,
        every: Duration,
        send: Notify,
    ) -> Self {
        Self {
            vitals,
            wakeups,
            stop_bound,
            every: every.max(Duration::from_millis(1)),
            send,
            began: Instant::now(),
            sent_ready: false,
            status: String::new(),
        }
    }

    /// Runs until `ended`, also during the shutdown.
    pub(super) async fn run(mut self, shutdown: CancellationToken, ended: CancellationToken) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut parts_run = true;
        self.wakeups.ping();
        loop {
            let mut tick = false;
            tokio::select! {
                _ = ticks.tick() => tick = true,
                still = changed(&mut self.vitals.database), if parts_run => parts_run = still,
                still = changed(&mut self.vitals.listening), if parts_run => parts_run = still,
                () = shutdown.cancelled() => break,
            }
            self.send_state();
            if tick && parts_run && self.wakeups.answered() {
                (self.send)(&[NotifyState::Watchdog]);
                self.wakeups.ping();
            }
        }
        self.send_stopping();
        // The controller no longer answers pings; the shutdown has its own deadline.
        loop {
            tokio::select! {
                _ = ticks.tick() => (self.send)(&[NotifyState::Watchdog]),
                () = ended.cancelled() => return,
            }
        }
    }

    fn send_state(&mut self) {
        let troubles = self.vitals.troubles();
        if !self.sent_ready && (troubles.is_empty() || self.began.elapsed() >= START_TIMEOUT) {
            (self.send)(&[NotifyState::Ready]);
            self.sent_ready = true;
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
        // Messages are separated by line breaks.
        let status = status.replace(char::is_control, " ");
        if status != self.status {
            (self.send)(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// Extends the stop timeout of the unit to the bound that the settings give.
    fn send_stopping(&self) {
        let micros = u32::try_from(self.stop_bound.as_micros()).unwrap_or(u32::MAX);
        (self.send)(&[
            NotifyState::Stopping,
            NotifyState::Status("stopping"),
            NotifyState::ExtendTimeoutUsec(micros),
        ]);
    }
}

/// Waits for a change; `false` if the sender was dropped.
async fn changed<T>(seen: &mut watch::Receiver<T>) -> bool {
    seen.changed().await.is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::core::listener::Listening;
    use crate::findings::Findings;

    const EVERY: Duration = Duration::from_millis(100);

    /// The inputs of [`Systemd`], and the messages that it sent.
    struct Harness {
        sent: Arc<Mutex<Vec<String>>>,
        database: watch::Sender<Option<String>>,
        listening: watch::Sender<Listening>,
        _schema: watch::Sender<Option<String>>,
        _queue: watch::Sender<Option<String>>,
        wakeups: WakeupQueue,
        shutdown: CancellationToken,
        ended: CancellationToken,
    }

    impl Harness {
        fn start() -> Self {
            let (database, database_seen) = watch::channel(Some("not\nthere".to_owned()));
            let (listening, listening_seen) = watch::channel(Listening::Yes);
            let (schema, schema_seen) = watch::channel(None);
            let (queue, queue_seen) = watch::channel(None);
            let vitals = Readiness {
                findings: Findings::default(),
                went_back: watch::channel(None).1,
                database: database_seen,
                listening: listening_seen,
                schema: schema_seen,
                queue: queue_seen,
            };
            let sent = Arc::new(Mutex::new(Vec::new()));
            let log = sent.clone();
            let send: Notify = Box::new(move |states| {
                log.lock()
                    .unwrap()
                    .extend(states.iter().map(ToString::to_string));
            });
            let harness = Self {
                sent,
                database,
                listening,
                _schema: schema,
                _queue: queue,
                wakeups: WakeupQueue::default(),
                shutdown: CancellationToken::new(),
                ended: CancellationToken::new(),
            };
            let bound = Duration::from_secs(25);
            let systemd = Systemd::sending_to(vitals, harness.wakeups.clone(), bound, EVERY, send);
            tokio::spawn(systemd.run(harness.shutdown.clone(), harness.ended.clone()));
            harness
        }

        /// The messages sent during some ticks.
        async fn messages(&self, ticks: u32) -> Vec<String> {
            self.sent.lock().unwrap().clear();
            tokio::time::sleep(EVERY * ticks).await;
            self.sent.lock().unwrap().clone()
        }
    }

    fn count(messages: &[String], message: &str) -> usize {
        messages.iter().filter(|sent| *sent == message).count()
    }

    #[tokio::test(start_paused = true)]
    async fn ready_is_sent_once_at_the_latest_after_the_timeout() {
        let harness = Harness::start();
        let sent = harness.messages(3).await;
        assert_eq!(sent[0], "STATUS=not ready: database: not there");
        assert_eq!(count(&sent, "READY=1"), 0);
        assert_eq!(count(&harness.messages(100).await, "READY=1"), 1);
        harness.database.send_replace(None);
        let sent = harness.messages(3).await;
        assert_eq!(count(&sent, "STATUS=ready"), 1);
        assert_eq!(count(&sent, "READY=1"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_controller_loop_stops_the_watchdog() {
        let harness = Harness::start();
        // Nothing drains the wake-up queue.
        assert_eq!(count(&harness.messages(20).await, "WATCHDOG=1"), 0);
        let wakeups = harness.wakeups.clone();
        let draining = tokio::spawn(async move { wakeups.drain().await });
        assert!(count(&harness.messages(20).await, "WATCHDOG=1") >= 18);
        draining.abort();
        assert!(count(&harness.messages(20).await, "WATCHDOG=1") <= 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_part_stops_the_watchdog() {
        for end_part in [
            (|harness: &mut Harness| harness.database = watch::channel(None).0) as fn(&mut Harness),
            |harness: &mut Harness| harness.listening = watch::channel(Listening::Yes).0,
        ] {
            let mut harness = Harness::start();
            let wakeups = harness.wakeups.clone();
            tokio::spawn(async move { wakeups.drain().await });
            assert!(count(&harness.messages(20).await, "WATCHDOG=1") >= 18);
            end_part(&mut harness);
            assert!(count(&harness.messages(20).await, "WATCHDOG=1") <= 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_extends_the_timeout_and_keeps_the_watchdog() {
        let harness = Harness::start();
        harness.messages(1).await;
        harness.shutdown.cancel();
        let sent = harness.messages(20).await;
        for message in ["STOPPING=1", "EXTEND_TIMEOUT_USEC=25000000"] {
            assert_eq!(count(&sent, message), 1, "{sent:?}");
        }
        assert!(count(&sent, "WATCHDOG=1") >= 18, "{sent:?}");
        harness.ended.cancel();
        harness.messages(1).await;
        assert!(harness.messages(5).await.is_empty());
    }
}
