//! Rate-limits invalid credentials, per client address and in total, in bounded
//! memory.
//!
//! A 256-bit secret cannot be guessed; the limit keeps such requests from the
//! database. A credential that was valid a moment ago is exempt, so an
//! attacker behind the same proxy, or from many addresses, locks out no user
//! with a live session.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::access::Fingerprint;

use super::super::error::ApiError;

const PER_ADDRESS: BucketLimit = BucketLimit {
    burst: 20.0,
    refill_every: Duration::from_secs(3),
};
const IN_TOTAL: BucketLimit = BucketLimit {
    burst: 300.0,
    refill_every: Duration::from_millis(100),
};
const MAX_ADDRESSES: usize = 4096;
const MAX_VALID: usize = 4096;

/// The parameters of a token bucket: a burst, and the time to regain one attempt.
struct BucketLimit {
    burst: f64,
    refill_every: Duration,
}

/// The attempts that are left in a token bucket.
#[derive(Clone, Copy, Debug)]
struct AttemptBucket {
    left: f64,
    at: Instant,
}

impl AttemptBucket {
    fn full(limit: &BucketLimit, now: Instant) -> Self {
        Self {
            left: limit.burst,
            at: now,
        }
    }

    fn refill(&mut self, limit: &BucketLimit, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64();
        let gained = gained / limit.refill_every.as_secs_f64();
        self.left = (self.left + gained).min(limit.burst);
        self.at = now;
    }

    /// Time until the next attempt, if none is left.
    fn wait(&self, limit: &BucketLimit) -> Option<Duration> {
        (self.left < 1.0).then(|| limit.refill_every.mul_f64(1.0 - self.left))
    }
}

/// Counts invalid credentials.
#[derive(Default)]
pub(super) struct RateLimiter {
    state: Mutex<LimiterState>,
}

#[derive(Default)]
struct LimiterState {
    total: Option<AttemptBucket>,
    peers: HashMap<IpAddr, AttemptBucket>,
    /// The fingerprints of credentials that were valid, by last use.
    valid: HashMap<Fingerprint, Instant>,
}

/// One check of a credential; it counts as failed until it is known to be valid.
pub(super) struct Attempt<'a> {
    limiter: &'a RateLimiter,
    /// The address that was charged, unless the credential is exempt.
    peer: Option<IpAddr>,
    credential: Option<Fingerprint>,
}

impl RateLimiter {
    /// Begins an attempt, or fails with the time until the next one is allowed.
    pub(super) fn begin(
        &self,
        peer: IpAddr,
        credential: Option<Fingerprint>,
    ) -> Result<Attempt<'_>, ApiError> {
        self.begin_at(peer, credential, Instant::now())
            .map_err(|wait| ApiError::TooMany {
                retry_after: wait.as_secs().max(1),
                detail: "too many invalid credentials".to_owned(),
            })
    }

    fn begin_at(
        &self,
        peer: IpAddr,
        credential: Option<Fingerprint>,
        now: Instant,
    ) -> Result<Attempt<'_>, Duration> {
        let mut state = self.lock();
        let attempt = |peer| Attempt {
            limiter: self,
            peer,
            credential,
        };
        if credential.is_some_and(|credential| state.valid.contains_key(&credential)) {
            return Ok(attempt(None));
        }
        let peer = network_of(peer);
        state.charge(peer, now)?;
        Ok(attempt(Some(peer)))
    }

    fn lock(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimiterState {
    fn charge(&mut self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut total = self
            .total
            .unwrap_or_else(|| AttemptBucket::full(&IN_TOTAL, now));
        total.refill(&IN_TOTAL, now);
        let known = self.peers.get(&peer).copied();
        let mut one = known.unwrap_or_else(|| AttemptBucket::full(&PER_ADDRESS, now));
        one.refill(&PER_ADDRESS, now);
        let wait = one.wait(&PER_ADDRESS).max(total.wait(&IN_TOTAL));
        if wait.is_none() {
            one.left -= 1.0;
            total.left -= 1.0;
        }
        self.total = Some(total);
        if known.is_none() {
            evict_oldest(&mut self.peers, MAX_ADDRESSES, |bucket| bucket.at);
        }
        self.peers.insert(peer, one);
        wait.map_or(Ok(()), Err)
    }

    fn refund(&mut self, peer: IpAddr) {
        let bucket = self.peers.get_mut(&peer).into_iter();
        for bucket in bucket.chain(self.total.as_mut()) {
            bucket.left += 1.0;
        }
    }
}

/// Removes the older half of a full map, so that the cost of sorting is rare.
fn evict_oldest<K: Hash + Eq + Copy, V>(
    map: &mut HashMap<K, V>,
    capacity: usize,
    at: impl Fn(&V) -> Instant,
) {
    if map.len() < capacity {
        return;
    }
    let mut ages: Vec<(Instant, K)> = map.iter().map(|(key, value)| (at(value), *key)).collect();
    ages.sort_unstable_by_key(|(at, _)| *at);
    for (_, key) in ages.into_iter().take(capacity / 2) {
        map.remove(&key);
    }
}

/// The address to charge. An IPv6 client usually has a whole /64, so the network
/// counts as one address.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
    }
}

impl Attempt<'_> {
    /// The credential could not be checked: refunds the attempt.
    pub(super) fn withdraw(self) {
        if let Some(peer) = self.peer {
            self.limiter.lock().refund(peer);
        }
    }

    /// The credential is invalid, even if it was valid before.
    pub(super) fn failed(self) {
        if let Some(credential) = self.credential {
            self.limiter.lock().valid.remove(&credential);
        }
    }

    /// The credential is valid: refunds the attempt and exempts the credential.
    pub(super) fn succeeded(self) {
        let mut state = self.limiter.lock();
        if let Some(peer) = self.peer {
            state.refund(peer);
        }
        if let Some(credential) = self.credential {
            evict_oldest(&mut state.valid, MAX_VALID, |at| *at);
            state.valid.insert(credential, Instant::now());
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

    fn credential(n: u8) -> Option<Fingerprint> {
        Some(Secret::token([n; 32]).fingerprint())
    }

    /// How many of `tried` attempts are allowed at `now`.
    fn allowed(limiter: &RateLimiter, peer: IpAddr, now: Instant, tried: usize) -> usize {
        let all = (0..tried).map(|_| limiter.begin_at(peer, credential(1), now));
        all.filter(Result::is_ok).count()
    }

    #[test]
    fn an_address_has_a_burst_and_regains_attempts() {
        let (limiter, now) = (RateLimiter::default(), Instant::now());
        assert_eq!(allowed(&limiter, address(1), now, 50), 20);
        let wait = limiter.begin_at(address(1), credential(1), now);
        assert_eq!(wait.err().unwrap(), Duration::from_secs(3));
        let later = now + Duration::from_secs(7);
        assert_eq!(allowed(&limiter, address(1), later, 50), 2);
        assert_eq!(allowed(&limiter, address(2), later, 50), 20);
    }

    #[test]
    fn all_addresses_share_a_total_limit() {
        let (limiter, now) = (RateLimiter::default(), Instant::now());
        let all: usize = (0..100)
            .map(|n| allowed(&limiter, address(n), now, 10))
            .sum();
        assert_eq!(all, 300);
    }

    #[test]
    fn a_valid_credential_is_exempt_until_it_fails() {
        let (limiter, now) = (RateLimiter::default(), Instant::now());
        limiter
            .begin(address(1), credential(7))
            .unwrap()
            .succeeded();
        assert_eq!(allowed(&limiter, address(1), now, 50), 20);
        for _ in 0..50 {
            limiter.begin_at(address(1), credential(7), now).unwrap();
        }
        let last = limiter.begin_at(address(1), credential(7), now).unwrap();
        last.failed();
        assert!(limiter.begin_at(address(1), credential(7), now).is_err());
    }

    #[test]
    fn valid_and_unchecked_credentials_are_refunded() {
        let (limiter, now) = (RateLimiter::default(), Instant::now());
        for n in 0..100 {
            let attempt = limiter.begin_at(address(1), credential(n), now).unwrap();
            if n % 2 == 0 {
                attempt.withdraw();
            } else {
                attempt.succeeded();
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_an_ipv6_network_is_one_address() {
        let limiter = RateLimiter::default();
        for n in 0..10_000 {
            let _ = limiter.begin_at(address(n), None, Instant::now());
        }
        assert!(limiter.lock().peers.len() <= MAX_ADDRESSES);
        let same = ["2001:db8::1", "2001:db8::ffff:1"].map(|text| text.parse().unwrap());
        assert_eq!(network_of(same[0]), network_of(same[1]));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(network_of(mapped), IpAddr::from([10, 0, 0, 1]));
    }
}
