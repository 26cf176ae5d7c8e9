//! Wake-ups that a controller has not handled yet: single keys and "everything", merged
//! and bounded.
//!
//! Notifications fill a [`WakeupQueue`], a controller drains it. This module must not
//! know where a wake-up comes from.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// How many different keys are kept, the newest ones; older ones become a wake-up for
/// "everything", that is a full pass. A person never changes as many rows at once.
const KEYS_KEPT: usize = 1024;
/// Longer payloads are ignored: no key is longer.
const LONGEST_KEY: usize = 256;

/// The wake-ups since the last call of [`WakeupQueue::wait`].
#[derive(Debug, Default)]
pub struct Wakeups {
    /// Keys, each with the time of its first wake-up, oldest first.
    pub keys: VecDeque<(Arc<str>, Instant)>,
    /// Whether a full pass is requested.
    pub everything: bool,
}

/// Collects wake-ups and merges equal ones; never blocks, is bounded, and is cheap to
/// clone.
#[derive(Clone, Debug, Default)]
pub struct WakeupQueue {
    inner: Arc<WakeupInner>,
}

#[derive(Debug, Default)]
struct WakeupInner {
    pending: Mutex<PendingWakeups>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct PendingWakeups {
    wakeups: Wakeups,
    /// The keys in `wakeups`, to merge equal ones.
    known: HashSet<Arc<str>>,
    /// No receiver has waited since the last ping.
    pinged: bool,
}

impl PendingWakeups {
    fn add(&mut self, key: &str) {
        if self.known.contains(key) {
            return;
        }
        let key: Arc<str> = key.into();
        self.known.insert(key.clone());
        self.wakeups.keys.push_back((key, Instant::now()));
        // In a burst a person most likely waits for the newest wake-up.
        if self.wakeups.keys.len() > KEYS_KEPT
            && let Some((oldest, _)) = self.wakeups.keys.pop_front()
        {
            self.known.remove(&oldest);
            self.wakeups.everything = true;
        }
    }
}

impl WakeupQueue {
    /// Adds a wake-up for one key. Ignores an empty or oversized one.
    pub fn wake(&self, key: &str) {
        if !key.is_empty() && key.len() <= LONGEST_KEY {
            self.lock().add(key);
            self.inner.notify.notify_one();
        }
    }

    /// Adds a wake-up for everything: a full pass.
    pub fn wake_everything(&self) {
        self.lock().wakeups.everything = true;
        self.inner.notify.notify_one();
    }

    /// Checks whether a receiver waits; see [`WakeupQueue::answered`].
    pub fn ping(&self) {
        self.lock().pinged = true;
        self.inner.notify.notify_one();
    }

    /// Whether a receiver has waited since the last ping.
    pub fn answered(&self) -> bool {
        !self.lock().pinged
    }

    /// Answers pings and drops wake-ups, until the future is dropped. For a receiver
    /// that can handle none of them and begins with a full pass afterwards.
    pub async fn drain(&self) -> Infallible {
        loop {
            self.wait().await;
        }
    }

    /// Waits for a wake-up, and takes all of them. Cancel-safe.
    pub async fn wait(&self) -> Wakeups {
        loop {
            let woken = std::mem::take(&mut *self.lock()).wakeups;
            if woken.everything || !woken.keys.is_empty() {
                return woken;
            }
            // `notify_one` stores a permit, so a wake-up after the check above is not
            // missed.
            self.inner.notify.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, PendingWakeups> {
        self.inner
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn equal_wakeups_merge_and_a_burst_becomes_everything() {
        let wakeups = WakeupQueue::default();
        wakeups.wake("a");
        wakeups.wake("a");
        wakeups.wake("");
        wakeups.wake(&"x".repeat(8000));
        let woken = wakeups.wait().await;
        assert_eq!((woken.keys.len(), woken.everything), (1, false));
        for n in 0..=KEYS_KEPT {
            wakeups.wake(&n.to_string());
        }
        wakeups.wake("single");
        let woken = wakeups.wait().await;
        assert_eq!((woken.keys.len(), woken.everything), (KEYS_KEPT, true));
        assert_eq!(&*woken.keys.back().unwrap().0, "single");
    }

    #[tokio::test]
    async fn a_wakeup_before_the_wait_is_not_missed() {
        let wakeups = WakeupQueue::default();
        wakeups.wake_everything();
        assert!(wakeups.wait().await.everything);
        let waiting = tokio::spawn({
            let wakeups = wakeups.clone();
            async move { wakeups.wait().await }
        });
        wakeups.wake("late");
        assert_eq!(&*waiting.await.unwrap().keys[0].0, "late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_receiver_answers_a_ping() {
        let wakeups = WakeupQueue::default();
        wakeups.ping();
        assert!(!wakeups.answered());
        let waited = timeout(Duration::from_secs(1), wakeups.wait()).await;
        assert!(waited.is_err() && wakeups.answered());
        wakeups.ping();
        wakeups.wake("a");
        assert_eq!(wakeups.wait().await.keys.len(), 1);
        assert!(wakeups.answered());
    }
}
