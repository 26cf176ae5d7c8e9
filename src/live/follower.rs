//! The one reader behind all streams: hears the bell of the page, reads what
//! changed, and looks from time to time without a bell.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::cause::chain;
use crate::core::database::{Database, DatabaseError};
use crate::core::listener::{Listener, Listening, Route};
use crate::core::wakeups::WakeupQueue;
use crate::store::{Changes, Store};

use super::{Feed, View};

/// How long it follows after the last stream closed.
const LINGER: Duration = Duration::from_secs(30);
/// How long the database rings for us without being asked again.
const WATCH_FOR: f64 = 60.0;
/// How often it is asked.
const WATCH_AGAIN: Duration = Duration::from_secs(20);
/// Between two looks while the bell works; and while it does not.
const LOOK_RUNG: Duration = Duration::from_secs(5);
const LOOK_DEAF: Duration = Duration::from_secs(1);
/// Between two reads of everything: changes made with triggers off are found.
const LOOK_AT_ALL: Duration = Duration::from_secs(30);

/// Follows the database for a [`Feed`].
pub struct Follower {
    // inputs
    /// How to listen.
    pub database: Database,
    /// The channel of the page.
    pub channel: String,
    /// How to read.
    pub store: Store,
    /// Unique to this process.
    pub owner: String,
    // outputs
    /// Who is told.
    pub feed: Feed,
}

/// One time of following.
struct Following {
    horizon: String,
    all_read: Instant,
    watched: Option<Instant>,
}

impl Follower {
    /// Follows whenever somebody looks, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut watchers = self.feed.shared.watchers.subscribe();
        loop {
            tokio::select! {
                looked_at = watchers.wait_for(|watchers| *watchers > 0) => {
                    if looked_at.is_err() { return }
                }
                () = shutdown.cancelled() => return,
            }
            self.follow(&shutdown).await;
            self.feed.shared.loaded.send_replace(false);
            self.feed.lock().forget();
            if let Err(error) = self.store.unwatch(&self.owner).await {
                debug!(
                    error = &error as &dyn std::error::Error,
                    "watchers end by themselves"
                );
            }
        }
    }

    /// From the first look to some time after the last.
    async fn follow(&self, shutdown: &CancellationToken) {
        let wakeups = WakeupQueue::default();
        let (told, listening) = watch::channel(Listening::No("not connected yet".to_owned()));
        let stop = shutdown.child_token();
        let route = Route {
            channel: self.channel.clone(),
            wakeups: wakeups.clone(),
        };
        let listener = Listener::new(self.database.clone(), [route], told);
        let listener = tokio::spawn(listener.run(stop.clone()));
        let mut following = Following {
            horizon: Changes::BEGINNING.to_owned(),
            all_read: Instant::now(),
            watched: None,
        };
        let mut watchers = self.feed.shared.watchers.subscribe();
        let mut unwatched_since = None;
        let mut first = true;
        loop {
            self.look(&mut following).await;
            let deaf = *listening.borrow() != Listening::Yes;
            // Soon after the first: whoever was writing when we asked to be
            // rung did not know of us.
            let pause = if deaf || first { LOOK_DEAF } else { LOOK_RUNG };
            first = false;
            let nobody = *watchers.borrow_and_update() == 0;
            unwatched_since = nobody.then(|| unwatched_since.unwrap_or_else(Instant::now));
            let end = unwatched_since.map(|since: Instant| since + LINGER);
            tokio::select! {
                _ = wakeups.wait() => {}
                () = sleep(pause) => {}
                _ = watchers.changed() => {}
                () = sleep_until(end.unwrap_or_else(Instant::now).into()), if end.is_some() => break,
                () = shutdown.cancelled() => break,
            }
        }
        stop.cancel();
        let _ = listener.await;
    }

    /// Reads what changed, and says whether that worked.
    async fn look(&self, following: &mut Following) {
        let trouble = match self.read(following).await {
            Ok(()) => {
                self.feed.shared.loaded.send_replace(true);
                None
            }
            Err(error) => Some(chain(&error)),
        };
        self.feed.lock().trouble(trouble);
    }

    async fn read(&self, following: &mut Following) -> Result<(), DatabaseError> {
        let ask = following
            .watched
            .is_none_or(|at| at.elapsed() >= WATCH_AGAIN);
        if ask {
            self.store.watch(&self.owner, WATCH_FOR).await?;
            following.watched = Some(Instant::now());
        }
        let everything = following.all_read.elapsed() >= LOOK_AT_ALL;
        if everything {
            following.horizon = Changes::BEGINNING.to_owned();
            following.all_read = Instant::now();
        }
        let changes = self.store.changes(&following.horizon).await?;
        let views: Vec<View> = changes.rows.into_iter().map(View::of_row).collect();
        let known = {
            let mut state = self.feed.lock();
            for view in views {
                state.upsert(view);
            }
            state.total()
        };
        following.horizon = changes.horizon;
        // All rows that are there are known, so more are known only if some went.
        if known != changes.total {
            let names: HashSet<String> = self.store.names().await?.into_iter().collect();
            self.feed.lock().keep_only(&names);
        }
        Ok(())
    }
}
