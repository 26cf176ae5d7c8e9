//! How often somebody may show what is not known: so and so often from one
//! address, and from all together, in bounded memory.
//!
//! Nobody guesses 256 bits; this keeps those who try from the database. A secret
//! that was good a moment ago is not held back, so that a guesser behind the
//! same proxy, or a flood from everywhere, shuts nobody out who is in.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::access::Fingerprint;

use super::super::error::ApiError;

/// From one address: at once, and one more each.
const OF_ONE: Allowance = Allowance {
    at_once: 20.0,
    one_more_each: Duration::from_secs(3),
};
/// From all addresses.
const OF_ALL: Allowance = Allowance {
    at_once: 300.0,
    one_more_each: Duration::from_millis(100),
};
/// So many addresses are remembered.
const MOST_PEERS: usize = 4096;
/// So many good secrets are remembered, by their hashes.
const MOST_GOOD: usize = 4096;

struct Allowance {
    at_once: f64,
    one_more_each: Duration,
}

/// What is left of an allowance.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(allowance: &Allowance, now: Instant) -> Self {
        Self {
            left: allowance.at_once,
            at: now,
        }
    }

    fn refill(&mut self, allowance: &Allowance, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64();
        let gained = gained / allowance.one_more_each.as_secs_f64();
        self.left = (self.left + gained).min(allowance.at_once);
        self.at = now;
    }

    /// How long until there is one, if there is none.
    fn wait(&self, allowance: &Allowance) -> Option<Duration> {
        (self.left < 1.0).then(|| allowance.one_more_each.mul_f64(1.0 - self.left))
    }
}

/// The failures so far.
#[derive(Default)]
pub(super) struct Attempts {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    all: Option<Bucket>,
    peers: HashMap<IpAddr, Bucket>,
    good: HashMap<Fingerprint, Instant>,
}

/// One that counts as failed until it is known not to be.
pub(super) struct Attempt<'a> {
    attempts: &'a Attempts,
    /// Whose allowance was used, if any was.
    peer: Option<IpAddr>,
    shown: Option<Fingerprint>,
}

impl Attempts {
    /// Begins one, if there may be another.
    pub(super) fn begin(
        &self,
        peer: IpAddr,
        shown: Option<Fingerprint>,
    ) -> Result<Attempt<'_>, ApiError> {
        self.begin_at(peer, shown, Instant::now())
            .map_err(|wait| ApiError::TooMany {
                retry_after: wait.as_secs().max(1),
                detail: "too many invalid credentials".to_owned(),
            })
    }

    fn begin_at(
        &self,
        peer: IpAddr,
        shown: Option<Fingerprint>,
        now: Instant,
    ) -> Result<Attempt<'_>, Duration> {
        let mut state = self.lock();
        let attempt = |peer| Attempt {
            attempts: self,
            peer,
            shown,
        };
        if shown.is_some_and(|shown| state.good.contains_key(&shown)) {
            return Ok(attempt(None));
        }
        let peer = counted_as(peer);
        state.use_one(peer, now)?;
        Ok(attempt(Some(peer)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn use_one(&mut self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut all = self.all.unwrap_or_else(|| Bucket::full(&OF_ALL, now));
        all.refill(&OF_ALL, now);
        let known = self.peers.get(&peer).copied();
        let mut one = known.unwrap_or_else(|| Bucket::full(&OF_ONE, now));
        one.refill(&OF_ONE, now);
        let wait = one.wait(&OF_ONE).max(all.wait(&OF_ALL));
        if wait.is_none() {
            one.left -= 1.0;
            all.left -= 1.0;
        }
        self.all = Some(all);
        if known.is_none() {
            make_room(&mut self.peers, MOST_PEERS, |bucket| bucket.at);
        }
        self.peers.insert(peer, one);
        wait.map_or(Ok(()), Err)
    }

    fn give_back(&mut self, peer: IpAddr) {
        let bucket = self.peers.get_mut(&peer).into_iter();
        for bucket in bucket.chain(self.all.as_mut()) {
            bucket.left += 1.0;
        }
    }
}

/// Forgets half of what is oldest when it is too much: rarely, and never the newest.
fn make_room<K: Hash + Eq + Copy, V>(
    map: &mut HashMap<K, V>,
    most: usize,
    at: impl Fn(&V) -> Instant,
) {
    if map.len() < most {
        return;
    }
    let mut ages: Vec<(Instant, K)> = map.iter().map(|(key, value)| (at(value), *key)).collect();
    ages.sort_unstable_by_key(|(at, _)| *at);
    for (_, key) in ages.into_iter().take(most / 2) {
        map.remove(&key);
    }
}

/// A network of IPv6 is one address: whoever has one address has 2^64.
fn counted_as(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
    }
}

impl Attempt<'_> {
    /// Whether it was good is not known; it does not count.
    pub(super) fn withdraw(self) {
        if let Some(peer) = self.peer {
            self.attempts.lock().give_back(peer);
        }
    }

    /// It was not good, even if it once was.
    pub(super) fn failed(self) {
        if let Some(shown) = self.shown {
            self.attempts.lock().good.remove(&shown);
        }
    }

    /// It was good, and is held back by nothing for as long as it is.
    pub(super) fn succeeded(self) {
        let mut state = self.attempts.lock();
        if let Some(peer) = self.peer {
            state.give_back(peer);
        }
        if let Some(shown) = self.shown {
            make_room(&mut state.good, MOST_GOOD, |at| *at);
            state.good.insert(shown, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Secret;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn shown(n: u8) -> Option<Fingerprint> {
        Some(Secret::token([n; 32]).fingerprint())
    }

    /// How many are let through at a moment.
    fn let_through(attempts: &Attempts, peer: IpAddr, now: Instant, tried: usize) -> usize {
        let all = (0..tried).map(|_| attempts.begin_at(peer, shown(1), now));
        all.filter(Result::is_ok).count()
    }

    #[test]
    fn one_address_has_so_many_at_once_and_then_one_at_a_time() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        assert_eq!(let_through(&attempts, address(1), now, 50), 20);
        let wait = attempts.begin_at(address(1), shown(1), now).err().unwrap();
        assert_eq!(wait, Duration::from_secs(3));
        let later = now + Duration::from_secs(7);
        assert_eq!(let_through(&attempts, address(1), later, 50), 2);
        assert_eq!(let_through(&attempts, address(2), later, 50), 20);
    }

    #[test]
    fn all_addresses_together_have_a_bound_too() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let all: usize = (0..100)
            .map(|n| let_through(&attempts, address(n), now, 10))
            .sum();
        assert_eq!(all, 300);
    }

    #[test]
    fn what_was_good_is_held_back_by_nobody_until_it_is_good_no_more() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        attempts.begin(address(1), shown(7)).unwrap().succeeded();
        assert_eq!(let_through(&attempts, address(1), now, 50), 20);
        for _ in 0..50 {
            attempts.begin_at(address(1), shown(7), now).unwrap();
        }
        let last = attempts.begin_at(address(1), shown(7), now).unwrap();
        last.failed();
        assert!(attempts.begin_at(address(1), shown(7), now).is_err());
    }

    #[test]
    fn what_succeeds_or_is_not_known_does_not_count() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..100 {
            let attempt = attempts.begin_at(address(1), shown(n), now).unwrap();
            if n % 2 == 0 {
                attempt.withdraw();
            } else {
                attempt.succeeded();
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_a_network_is_one_address() {
        let attempts = Attempts::default();
        for n in 0..10_000 {
            let _ = attempts.begin_at(address(n), None, Instant::now());
        }
        assert!(attempts.lock().peers.len() <= MOST_PEERS);
        let same = ["2001:db8::1", "2001:db8::ffff:1"].map(|text| text.parse().unwrap());
        assert_eq!(counted_as(same[0]), counted_as(same[1]));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(counted_as(mapped), IpAddr::from([10, 0, 0, 1]));
    }
}
