//! Sessions that are not used: the pool closes them after a while, and before the server's
//! `idle_session_timeout` ends them, which the administrator may have set for the role.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::Pool;

/// How long a pool keeps a connection that is not used: a burst of requests must not occupy
/// the server's connections for ever.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// The shortest time between two searches for idle connections.
const MIN_SEARCH: Duration = Duration::from_millis(100);

/// Closes idle connections of one pool; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct IdleConnections {
    /// The server's limit in milliseconds; 0: none.
    limit: Arc<AtomicU64>,
    searching: Arc<AtomicBool>,
}

impl IdleConnections {
    /// Remembers the limit of a new session; all sessions of a pool have the same role.
    pub(super) fn set_limit(&self, limit: Option<Duration>) {
        let limit = limit.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(0));
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How long a connection may be idle and still be used: half of the server's limit, so
    /// that the server does not end the session at that moment.
    pub(super) fn longest(&self) -> Duration {
        match self.limit.load(Ordering::Relaxed) {
            0 => MAX_IDLE,
            limit => MAX_IDLE.min(Duration::from_millis(limit) / 2),
        }
    }

    /// Searches for idle connections from now on, until the pool has no connection or does
    /// not exist any more.
    pub(super) fn search(&self, pool: &Pool) {
        if self.searching.swap(true, Ordering::Relaxed) {
            return;
        }
        let (idle, pool) = (self.clone(), pool.weak());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep((idle.longest() / 2).max(MIN_SEARCH)).await;
                let Some(pool) = pool.upgrade() else { return };
                let longest = idle.longest();
                pool.retain(|_, metrics| metrics.last_used() < longest);
                if pool.status().size == 0 {
                    idle.searching.store(false, Ordering::Relaxed);
                    return;
                }
            }
        });
    }
}
