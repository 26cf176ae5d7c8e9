//! Ends open streams when their token is revoked or expires, or their session
//! ends.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::access::Fingerprint;
use crate::store::{LiveGrants, Store};

use super::{Access, AccessInner, Principal};

/// How often the credentials of open streams are checked, while there are any.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// The open streams that were authenticated.
#[derive(Debug)]
pub(super) struct OpenStreams {
    open: Mutex<HashMap<u64, StreamGrant>>,
    count: watch::Sender<usize>,
    next: AtomicU64,
}

/// The credential of one stream.
#[derive(Debug)]
struct StreamGrant {
    token: i64,
    session: Option<Fingerprint>,
    ended: CancellationToken,
}

impl Default for OpenStreams {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            count: watch::Sender::new(0),
            next: AtomicU64::new(0),
        }
    }
}

impl OpenStreams {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, StreamGrant>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tokens and sessions of all open streams.
    fn grants(&self) -> LiveGrants {
        let open = self.lock();
        let tokens: HashSet<i64> = open.values().map(|one| one.token).collect();
        let sessions = open.values().filter_map(|one| one.session);
        let sessions: HashSet<Fingerprint> = sessions.collect();
        LiveGrants {
            tokens: tokens.into_iter().collect(),
            sessions: sessions.iter().map(|s| s.as_bytes().to_vec()).collect(),
        }
    }

    /// Ends the streams whose token or session is not live.
    fn keep_only(&self, live: &LiveGrants) {
        for one in self.lock().values() {
            let token = live.tokens.contains(&one.token);
            let session = one.session.is_none_or(|session| {
                let mut sessions = live.sessions.iter();
                sessions.any(|kept| session.matches(kept))
            });
            if !(token && session) {
                one.ended.cancel();
            }
        }
    }

    /// Checks the open streams until `shutdown`. Without the database nothing
    /// can be checked, but the streams get no new data either.
    pub(super) async fn watch(&self, store: &Store, shutdown: &CancellationToken) {
        let mut count = self.count.subscribe();
        loop {
            let next = async {
                // Cannot fail: `self` holds the sender.
                let _ = count.wait_for(|count| *count > 0).await;
                tokio::time::sleep(CHECK_EVERY).await;
            };
            tokio::select! {
                () = next => {}
                () = shutdown.cancelled() => return,
            }
            match store.live_grants(&self.grants()).await {
                Ok(live) => self.keep_only(&live),
                Err(error) => debug!(
                    error = &error as &dyn std::error::Error,
                    "cannot check the credentials of open streams"
                ),
            }
        }
    }
}

/// Limits the life of a stream to that of its credential.
pub(in crate::http) struct StreamLifetime {
    ended: CancellationToken,
    closing: CancellationToken,
    registered: Option<(Arc<AccessInner>, u64)>,
}

impl StreamLifetime {
    /// Waits until the stream has to end.
    pub(in crate::http) async fn ended(&self) {
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = self.closing.cancelled() => {}
        }
    }
}

impl Drop for StreamLifetime {
    fn drop(&mut self) {
        if let Some((access, number)) = &self.registered {
            access.streams.lock().remove(number);
            access.streams.count.send_modify(|count| *count -= 1);
        }
    }
}

impl<S> FromRequestParts<S> for StreamLifetime
where
    S: Send + Sync,
    Access: FromRef<S>,
{
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let access = Access::from_ref(state).inner;
        let (ended, closing) = (CancellationToken::new(), access.closing.clone());
        let registered = parts.extensions.get::<Principal>().map(|principal| {
            let number = access.streams.next.fetch_add(1, Ordering::Relaxed);
            let grant = StreamGrant {
                token: principal.token,
                session: principal.session,
                ended: ended.clone(),
            };
            access.streams.lock().insert(number, grant);
            access.streams.count.send_modify(|count| *count += 1);
            (access, number)
        });
        Ok(Self {
            ended,
            closing,
            registered,
        })
    }
}
