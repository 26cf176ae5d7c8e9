//! Live changes of the clusters: one reader of the database for all streams.
//!
//! While a stream is open, a transaction that writes to `clusters` sends one notification
//! on the page's channel. The follower then reads the changes since its last read, renders
//! each once and sends it to all streams. It works only while a stream is open,
//! and for some time after, so that a page which reconnects can resume.
//!
//! This module must not act on clusters and must not know HTTP.

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

use state::FeedState;

/// Deadline for the first read of the database.
const LOADED_WITHIN: Duration = Duration::from_secs(5);

/// The start of a stream.
#[derive(Debug)]
pub enum Backlog {
    /// All clusters, rendered.
    Snapshot(Vec<Arc<str>>),
    /// The changes since the id of the client.
    Missed(Vec<Arc<Frame>>),
}

/// The subscription of one stream; it ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    /// The events before `frames`.
    pub backlog: Backlog,
    /// The number of clusters at the start.
    pub total: usize,
    /// The id of the last change in `backlog`.
    pub id: String,
    /// A status, as JSON, if the data may be stale or something is wrong.
    pub warning: Option<String>,
    /// The changes from then on. The channel returns an error to a receiver that
    /// lags too far; the stream should then end.
    pub frames: broadcast::Receiver<Arc<Frame>>,
    _counted: CountedStream,
}

/// The clusters were not read yet.
#[derive(Debug, thiserror::Error)]
#[error("the clusters cannot be read yet: {0}")]
pub struct NotLoaded(String);

/// Live changes of the clusters; cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed {
    shared: Arc<FeedShared>,
}

#[derive(Debug)]
struct FeedShared {
    open_streams: watch::Sender<usize>,
    loaded: watch::Sender<bool>,
    state: Mutex<FeedState>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            shared: Arc::new(FeedShared {
                open_streams: watch::Sender::new(0),
                loaded: watch::Sender::new(false),
                state: Mutex::new(FeedState::new()),
            }),
        }
    }
}

impl Feed {
    /// Subscribes a stream. `last` is the id of the last change that the client
    /// received; if it is still known, the backlog has only later changes.
    ///
    /// # Errors
    /// [`NotLoaded`] when the database does not answer within 5 s.
    pub async fn subscribe(&self, last: Option<&str>) -> Result<Subscription, NotLoaded> {
        let counted = CountedStream::begin(self.clone());
        let mut loaded = self.shared.loaded.subscribe();
        let ready = timeout(LOADED_WITHIN, loaded.wait_for(|loaded| *loaded));
        if ready.await.is_err() {
            return Err(NotLoaded(self.lock().reason()));
        }
        // Under one lock, so that no change falls between backlog and `frames`.
        let state = self.lock();
        let missed = last.and_then(|last| state.since(last));
        Ok(Subscription {
            backlog: missed.map_or_else(|| Backlog::Snapshot(state.rendered()), Backlog::Missed),
            total: state.total(),
            id: state.id(),
            warning: state.warning(),
            frames: state.subscribe(),
            _counted: counted,
        })
    }

    /// The number of open streams.
    pub fn open_streams(&self) -> usize {
        *self.shared.open_streams.borrow()
    }

    fn lock(&self) -> MutexGuard<'_, FeedState> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a stream as open until it is dropped.
#[derive(Debug)]
struct CountedStream {
    feed: Feed,
}

impl CountedStream {
    fn begin(feed: Feed) -> Self {
        feed.shared
            .open_streams
            .send_modify(|open_streams| *open_streams += 1);
        Self { feed }
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        let open_streams = &self.feed.shared.open_streams;
        open_streams.send_modify(|open_streams| *open_streams = open_streams.saturating_sub(1));
    }
}
