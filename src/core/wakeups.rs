//! What woke us since the last look: keys and "everything", folded and bounded.
//!
//! Notifications fill a [`WakeupQueue`], a controller drains it. This module
//! must not know where a wake-up comes from.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// So many different keys are remembered, the newest ones; the others fold into
/// "everything", which a full pass answers. Far more than a person ever changes
/// at once, and little memory.
const KEYS_KEPT: usize = 1024;
/// Longer payloads cannot be keys (names are at most 63 bytes).
const LONGEST_KEY: usize = 256;

/// What had a wake-up since the last look.
#[derive(Debug, Default)]
pub struct Wakeups {
    /// Keys, each with the time of its first wake-up, the eldest first.
    pub keys: VecDeque<(Arc<str>, Instant)>,
    /// Look at everything that is due.
    pub everything: bool,
}

/// Collects wake-ups, folds equal ones, never blocks and never grows beyond a
/// bound; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct WakeupQueue {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    pending: Mutex<Pending>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    wakeups: Wakeups,
    /// The keys in `wakeups`, to fold equal ones.
    known: HashSet<Arc<str>>,
    /// A ping: is the receiver still waiting here?
    pinged: bool,
}

impl Pending {
    fn add(&mut self, key: &str) {
        if self.known.contains(key) {
            return;
        }
        let key: Arc<str> = key.into();
        self.known.insert(key.clone());
        self.wakeups.keys.push_back((key, Instant::now()));
        // In a flood the newest wake-up is the one that a person waits for.
        if self.wakeups.keys.len() > KEYS_KEPT
            && let Some((eldest, _)) = self.wakeups.keys.pop_front()
        {
            self.known.remove(&eldest);
            self.wakeups.everything = true;
        }
    }
}

impl WakeupQueue {
    /// Wakes for one key. An empty or oversized one cannot be a key and is
    /// ignored.
    pub fn wake(&self, key: &str) {
        if !key.is_empty() && key.len() <= LONGEST_KEY {
            self.lock().add(key);
            self.inner.notify.notify_one();
        }
    }

    /// Wakes for everything that is due.
    pub fn wake_everything(&self) {
        self.lock().wakeups.everything = true;
        self.inner.notify.notify_one();
    }

    /// Asks whether anyone waits; see [`WakeupQueue::answered`].
    pub fn ping(&self) {
        self.lock().pinged = true;
        self.inner.notify.notify_one();
    }

    /// Whether someone has waited since the last ping.
    pub fn answered(&self) -> bool {
        !self.lock().pinged
    }

    /// Answers pings and drops wake-ups, for as long as nothing can be done for any
    /// of them; the next wait looks at everything first.
    pub async fn drain(&self) -> Infallible {
        loop {
            self.wait().await;
        }
    }

    /// Waits until there is a wake-up, and takes them all. Cancel-safe.
    pub async fn wait(&self) -> Wakeups {
        loop {
            let woken = std::mem::take(&mut *self.lock()).wakeups;
            if woken.everything || !woken.keys.is_empty() {
                return woken;
            }
            // `notify_one` leaves a permit, so a wake-up since the look above is
            // not missed.
            self.inner.notify.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
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
    async fn equal_wakeups_fold_and_a_flood_becomes_everything() {
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
    async fn a_ping_is_answered_by_the_waiting_receiver_and_wakes_no_key() {
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
