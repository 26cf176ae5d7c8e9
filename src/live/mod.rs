//! The clusters as they change, for everybody who looks: one reader of the
//! database, however many streams are open.
//!
//! Driven by the database: a statement that writes to `clusters`, whoever runs
//! it, rings the channel of the page once; the follower then reads what changed
//! since its last read and hands each change, rendered once, to all streams.
//! It follows only while somebody looks, and a while longer, so that a page
//! which reconnects resumes where it was.
//!
//! This module must not act on what it reads and must not know HTTP.

mod follower;
mod state;
mod steps;
mod view;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

pub use follower::Follower;
pub use state::{Frame, FrameKind};
pub use steps::StepView;
pub use view::{SpecView, View};

use state::State;

/// How long a stream may wait for the first read.
const LOADED_WITHIN: Duration = Duration::from_secs(5);

/// What happened while nobody of this stream looked, or where it starts.
#[derive(Debug)]
pub enum Backlog {
    /// Every cluster, rendered.
    Snapshot(Vec<Arc<str>>),
    /// The changes since the id that was shown.
    Missed(Vec<Arc<Frame>>),
}

/// One stream's view of the feed; dropping it is no longer looking.
#[derive(Debug)]
pub struct Subscription {
    /// Where it starts.
    pub backlog: Backlog,
    /// How many clusters there are at the start.
    pub total: usize,
    /// The id of the last change in `backlog`.
    pub id: String,
    /// A status, as JSON, if what is shown is old.
    pub warning: Option<String>,
    /// What happens from then on. A reader that lags too far is told so by the
    /// channel, and should end.
    pub frames: broadcast::Receiver<Arc<Frame>>,
    _watching: Watching,
}

/// The database did not answer yet, so there is nothing to show.
#[derive(Debug, thiserror::Error)]
#[error("the clusters cannot be read yet: {0}")]
pub struct NotLoaded(String);

/// The clusters as they change; cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    watchers: watch::Sender<usize>,
    loaded: watch::Sender<bool>,
    state: Mutex<State>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                watchers: watch::Sender::new(0),
                loaded: watch::Sender::new(false),
                state: Mutex::new(State::new()),
            }),
        }
    }
}

impl Feed {
    /// Looks from now on. `last` is the id of the last change that was seen, if
    /// any; if it is still known, only what followed is told.
    ///
    /// # Errors
    /// [`NotLoaded`] when the database does not answer within 5 s.
    pub async fn subscribe(&self, last: Option<&str>) -> Result<Subscription, NotLoaded> {
        let watching = Watching::begin(self.clone());
        let mut loaded = self.shared.loaded.subscribe();
        let ready = timeout(LOADED_WITHIN, loaded.wait_for(|loaded| *loaded));
        if ready.await.is_err() {
            return Err(NotLoaded(self.lock().trouble_told()));
        }
        // Under one lock, so that no change falls between the two.
        let state = self.lock();
        let missed = last.and_then(|last| state.since(last));
        Ok(Subscription {
            backlog: missed.map_or_else(|| Backlog::Snapshot(state.rendered()), Backlog::Missed),
            total: state.total(),
            id: state.id(),
            warning: state.warning(),
            frames: state.subscribe(),
            _watching: watching,
        })
    }

    /// How many streams are open.
    pub fn watchers(&self) -> usize {
        *self.shared.watchers.borrow()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody looks, until this is dropped.
#[derive(Debug)]
struct Watching {
    feed: Feed,
}

impl Watching {
    fn begin(feed: Feed) -> Self {
        feed.shared.watchers.send_modify(|watchers| *watchers += 1);
        Self { feed }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let watchers = &self.feed.shared.watchers;
        watchers.send_modify(|watchers| *watchers = watchers.saturating_sub(1));
    }
}
