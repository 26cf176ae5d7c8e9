//! The space of the state folder. A file system that hangs delays no scrape: the values stay
//! as they were, and no second call is made meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::statvfs;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Metrics;

/// How long a scrape waits for the file system.
const WITHIN: Duration = Duration::from_millis(300);

/// Reads the space of a folder; cheap to clone.
#[derive(Clone, Debug)]
pub struct StateFolder {
    path: Arc<PathBuf>,
    waiting: Arc<AtomicBool>,
}

impl StateFolder {
    /// Of this folder.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path: Arc::new(path),
            waiting: Arc::default(),
        }
    }

    /// Sets the metrics of the folder, if its file system answers in time.
    pub async fn measure(&self, metrics: &Metrics) {
        if self.waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        let folder = self.clone();
        let measured = spawn_blocking(move || {
            let found = statvfs(&*folder.path);
            folder.waiting.store(false, Ordering::Release);
            found
        });
        if let Ok(Ok(Ok(found))) = timeout(WITHIN, measured).await {
            let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
            metrics.state_folder(bytes(found.f_bavail), bytes(found.f_blocks));
        }
    }
}
