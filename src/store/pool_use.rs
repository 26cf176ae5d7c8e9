//! How full the pool of connections is, for metrics.

use super::Store;

/// How full the pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// Connections that exist.
    pub open: usize,
    /// Of these, unused now.
    pub idle: usize,
    /// Calls that wait for one.
    pub waiting: usize,
}

impl Store {
    /// How full the pool is.
    pub fn pool_use(&self) -> PoolUse {
        let status = self.pool.status();
        PoolUse {
            open: status.size,
            idle: status.available,
            waiting: status.waiting,
        }
    }
}
