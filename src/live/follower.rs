//! The reader behind all streams: it reads the changes after each notification,
//! and from time to time without one.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::cause::chain;
use crate::core::database::{Database, DatabaseError};
use crate::core::listener::{Listener, Listening, Route};
use crate::core::wakeups::WakeupQueue;
use crate::store::{Changes, ClusterWithWork, FleetView, Store};

use super::{Feed, View};

/// Time to follow after the last stream closed.
const LINGER: Duration = Duration::from_secs(30);
/// How long the database sends notifications after a registration, in seconds.
const REGISTERED_FOR: f64 = 60.0;
/// Time between two registrations.
const REGISTER_EVERY: Duration = Duration::from_secs(20);
/// Time between two reads while notifications arrive.
const READ_EVERY: Duration = Duration::from_secs(5);
/// The same while they do not arrive.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// The shortest pause before a read without a notification.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// Time between two reads of all rows, which find changes made with triggers
/// disabled.
const READ_ALL_EVERY: Duration = Duration::from_secs(30);

/// Follows the database for a [`Feed`].
pub struct Follower {
    // inputs
    /// For the listener.
    pub database: Database,
    /// The channel of the page.
    pub channel: String,
    /// Reads the clusters.
    pub store: Store,
    /// Unique to this process.
    pub owner: String,
    /// The time between two heartbeats of a daemon.
    pub heartbeat: Duration,
    // outputs
    /// Receives the changes.
    pub feed: Feed,
}

/// The progress of following.
struct FollowState {
    /// The oldest transaction that was running at the last read.
    horizon: String,
    all_read: Instant,
    /// Whether the database sends notifications.
    notifies: bool,
    registered_at: Option<Instant>,
    /// The daemons, if they could be read.
    fleet: Option<FleetView>,
    /// The clusters that may wait: what they wait for changes although their rows do not.
    unsettled: HashMap<String, ClusterWithWork>,
}

impl Follower {
    /// Follows while streams are open, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut open_streams = self.feed.shared.open_streams.subscribe();
        loop {
            tokio::select! {
                opened = open_streams.wait_for(|open_streams| *open_streams > 0) => {
                    if opened.is_err() { return }
                }
                () = shutdown.cancelled() => return,
            }
            self.follow(&shutdown).await;
            self.feed.shared.loaded.send_replace(false);
            self.feed.lock().reset();
            if let Err(error) = self.store.unregister_streams(&self.owner).await {
                debug!(
                    error = &error as &dyn std::error::Error,
                    "cannot end the request for notifications; it expires"
                );
            }
        }
    }

    /// Follows until some time after the last stream closed.
    async fn follow(&self, shutdown: &CancellationToken) {
        let wakeups = WakeupQueue::default();
        let (listening_state, listening) =
            watch::channel(Listening::No("not connected yet".to_owned()));
        let stop = shutdown.child_token();
        let route = Route {
            channel: self.channel.clone(),
            wakeups: wakeups.clone(),
        };
        let listener = Listener::new(self.database.clone(), [route], listening_state);
        let listener = tokio::spawn(listener.run(stop.clone()));
        let mut following = FollowState {
            horizon: Changes::BEGINNING.to_owned(),
            all_read: Instant::now(),
            notifies: true,
            registered_at: None,
            fleet: None,
            unsettled: HashMap::new(),
        };
        let mut open_streams = self.feed.shared.open_streams.subscribe();
        let mut no_stream_since = None;
        let mut first = true;
        loop {
            self.update(&mut following).await;
            let listens = *listening.borrow() == Listening::Yes && following.notifies;
            // The second read follows soon: a transaction that began before the
            // registration sends no notification.
            let pause = if listens && !first {
                READ_EVERY
            } else {
                POLL_EVERY
            };
            first = false;
            // The banner must not wait for the next read when the last daemon falls silent.
            let silent = following.fleet.as_ref().and_then(FleetView::silent_at);
            let silent = silent.map(|at| at.saturating_duration_since(Instant::now()));
            let pause = silent.map_or(pause, |silent| pause.min(silent.max(MIN_PAUSE)));
            let no_stream = *open_streams.borrow_and_update() == 0;
            no_stream_since = no_stream.then(|| no_stream_since.unwrap_or_else(Instant::now));
            let end = no_stream_since.map(|since: Instant| since + LINGER);
            tokio::select! {
                _ = wakeups.wait() => {}
                () = sleep(pause) => {}
                _ = open_streams.changed() => {}
                () = sleep_until(end.unwrap_or_else(Instant::now).into()), if end.is_some() => break,
                () = shutdown.cancelled() => break,
            }
        }
        stop.cancel();
        let _ = listener.await;
    }

    /// Reads the changes; after a failure the data is stale.
    async fn update(&self, following: &mut FollowState) {
        let stale = match self.read(following).await {
            Ok(()) => {
                self.feed.shared.loaded.send_replace(true);
                None
            }
            Err(error) => Some(chain(&error)),
        };
        self.feed.lock().set_stale(stale);
    }

    async fn read(&self, following: &mut FollowState) -> Result<(), DatabaseError> {
        let register = following
            .registered_at
            .is_none_or(|at| at.elapsed() >= REGISTER_EVERY);
        if register {
            self.store
                .register_streams(&self.owner, REGISTERED_FOR)
                .await?;
            following.registered_at = Some(Instant::now());
        }
        let everything = following.all_read.elapsed() >= READ_ALL_EVERY;
        if everything {
            following.horizon = Changes::BEGINNING.to_owned();
            following.all_read = Instant::now();
        }
        let changes = self.store.changes(&following.horizon).await?;
        // Without it, no cluster says for what it waits.
        following.fleet = self.store.fleet(self.heartbeat).await.ok();
        let fleet = following.fleet.as_ref();
        for row in changes.rows.iter().flatten() {
            let name = row.cluster.name.to_string();
            match row.cluster.settled() {
                true => following.unsettled.remove(&name),
                false => following.unsettled.insert(name, row.clone()),
            };
        }
        let waiting = following.unsettled.values().cloned().map(Ok);
        let known = {
            let mut state = self.feed.lock();
            for row in changes.rows.into_iter().chain(waiting) {
                state.upsert(View::of_row(row, fleet));
            }
            state.set_problems(fleet.map(FleetView::problems).unwrap_or_default());
            state.total()
        };
        following.horizon = changes.horizon;
        following.notifies = changes.notifies;
        // All current rows are known, so a different count means removed rows.
        if known != changes.total {
            let names: HashSet<String> = self.store.names().await?.into_iter().collect();
            following.unsettled.retain(|name, _| names.contains(name));
            self.feed.lock().keep_only(&names);
        }
        Ok(())
    }
}
