//! Keys whose writes the database refuses although no status of their row says so, because
//! the claim or the status itself is refused: the cause, and when the next attempt is due.
//!
//! The controller adds and removes them; heartbeat and metrics read them. This module runs
//! no statement.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::queue::Key;

/// How many keys are kept. The cause is most likely the same for all of them.
const MAX_KEPT: usize = 1000;

/// Refused writes of one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedWrite {
    /// The key.
    pub key: String,
    /// The operation, and why the database refuses it.
    pub why: String,
    /// How many attempts in a row were refused.
    pub attempts: u32,
    /// When the first of them was.
    pub since: Timestamp,
    /// When the next attempt is due.
    pub next_attempt_at: Timestamp,
}

#[derive(Debug)]
struct Kept {
    refused: RefusedWrite,
    until: Instant,
}

/// The refused keys of one controller; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    kept: Arc<Mutex<BTreeMap<Key, Kept>>>,
}

impl Refusals {
    /// Adds an attempt that was refused, and returns the delay until the next one.
    pub fn add(&self, key: &Key, why: String, backoff: &Backoff) -> Duration {
        let mut kept = self.lock();
        let jitter = fastrand::f64();
        if kept.len() >= MAX_KEPT && !kept.contains_key(key) {
            return backoff.longest(jitter);
        }
        let now = Timestamp::now();
        let before = kept.get(key).map(|kept| &kept.refused);
        let attempts = before.map_or(1, |before| before.attempts.saturating_add(1));
        let since = before.map_or(now, |before| before.since);
        let delay = backoff.delay(attempts, jitter);
        let after = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
        let refused = RefusedWrite {
            key: key.to_string(),
            why,
            attempts,
            since,
            next_attempt_at: now.checked_add(after).unwrap_or(Timestamp::MAX),
        };
        let until = Instant::now() + delay;
        kept.insert(key.clone(), Kept { refused, until });
        delay
    }

    /// Removes a key whose last attempt was not refused.
    pub fn remove(&self, key: &str) {
        self.lock().remove(key);
    }

    /// When the next attempt of a key is due; none if its last one was not refused.
    pub fn until(&self, key: &str) -> Option<Instant> {
        self.lock().get(key).map(|kept| kept.until)
    }

    /// How many keys are refused.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// The keys that have been refused for the longest time.
    pub fn oldest(&self, limit: usize) -> Vec<RefusedWrite> {
        let mut all: Vec<_> = self.lock().values().map(|k| k.refused.clone()).collect();
        all.sort_by(|a, b| (a.since, &a.key).cmp(&(b.since, &b.key)));
        all.truncate(limit);
        all
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_until_an_attempt_is_not_refused() {
        let (refusals, key, backoff) = (Refusals::default(), Key::from("dev"), Backoff::default());
        let add = || refusals.add(&key, "no".to_owned(), &backoff);
        let (first, second) = (add(), add());
        assert!(first <= Duration::from_secs(5) && second > Duration::from_secs(7));
        assert!(refusals.until("dev").unwrap() > Instant::now() + Duration::from_secs(7));
        let oldest = refusals.oldest(5);
        assert_eq!((oldest.len(), oldest[0].attempts), (1, 2));
        assert!(oldest[0].since <= oldest[0].next_attempt_at);
        refusals.remove("dev");
        assert_eq!((refusals.until("dev"), refusals.count()), (None, 0));
        let again = refusals.add(&key, "no".to_owned(), &backoff);
        assert!(again <= Duration::from_secs(5));
    }

    #[test]
    fn the_number_of_kept_keys_is_bounded() {
        let (refusals, backoff) = (Refusals::default(), Backoff::default());
        for n in 0..=MAX_KEPT {
            let key = Key::from(format!("c{n}"));
            refusals.add(&key, "no".to_owned(), &backoff);
        }
        assert_eq!(refusals.count(), MAX_KEPT);
        assert_eq!(refusals.oldest(3).len(), 3);
    }
}
