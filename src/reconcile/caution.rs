//! What keeps one step from doing harm to many, told once and not per row:
//! the cap on deletions. The judgement is [`crate::plan`]'s; this remembers
//! what was told, and must not decide.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{info, warn};

use crate::cluster::Actual;
use crate::plan::{DeletionQueue, Status, hold_deletion};
use crate::store::{HeldRow, StoreError, Written};

use super::ClusterReconciler;
use super::held::Held;

/// What was told of what is held back.
#[derive(Debug, Default)]
pub struct Caution {
    deletions_held: AtomicBool,
}

impl Caution {
    /// Tells the log when deletions begin to wait, and when none waits any
    /// more.
    fn deletion_settled(&self, status: &Status, cap: usize, queue: &DeletionQueue) {
        let waits = status.actual != Actual::Deleting;
        let over = !waits && queue.ahead + queue.behind == 0;
        if waits && !self.deletions_held.swap(true, Ordering::Relaxed) {
            warn!(
                cap,
                waiting = queue.ahead + queue.behind + 1,
                "deletions wait: more are wanted than KINDLER_DELETE_CAP lets begin within a minute"
            );
        } else if over && self.deletions_held.swap(false, Ordering::Relaxed) {
            info!("no deletion waits any more");
        }
    }
}

impl ClusterReconciler {
    /// Commits the intent of a deletion, or that it waits for its turn.
    pub(super) async fn begin_deletion(
        &self,
        held: &Held<'_>,
        row: &HeldRow,
        intent: Status,
    ) -> Result<Written, StoreError> {
        let cap = self.policy.delete_cap;
        self.store
            .begin_deletion(row, held.term, |queue| {
                let status = hold_deletion(&row.cluster, intent, cap, queue);
                self.caution.deletion_settled(&status, cap, queue);
                status
            })
            .await
    }
}
