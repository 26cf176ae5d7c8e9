//! Who asks, and whether they may: every request of the API passes here, and
//! what it needs is read from the API's own description.
//!
//! On a loopback address everybody is let in, unless the settings say otherwise.
//! Elsewhere a request shows a token (`Authorization: Bearer`) or the cookie of
//! a login that was begun with one. Each is looked up at every request, so that
//! a revoked one ends with the next, and open streams end within seconds.
//!
//! No secret is logged, stored or sent back from here.

mod attempts;
mod credential;
mod rules;
mod tenure;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{Extensions, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::access::{Fingerprint, Scope};
use crate::cause::chain;
use crate::store::{Bearer, CredentialState, Store};

use super::actor::Actor;
use super::error::ApiError;
use attempts::Attempts;
use tenure::OpenStreams;

pub(super) use credential::{Shown, clear_cookie, session_cookie, shown, without_csrf_header};
pub(super) use rules::{Rules, annotate};
pub(super) use tenure::Tenure;

/// Whom the API lets in; cheap to clone.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    required: bool,
    closing: CancellationToken,
    attempts: Attempts,
    streams: OpenStreams,
}

/// Who was recognised.
#[derive(Clone, Debug)]
pub(super) struct Principal {
    /// The token's number.
    pub(super) token: i64,
    /// Its name.
    pub(super) name: String,
    /// What it may be used for.
    pub(super) scope: Scope,
    /// The login, if one was shown instead of the token.
    session: Option<Fingerprint>,
}

impl Access {
    /// Tokens are looked up in `store`; if they are not `required`, everybody
    /// may do everything. Open streams end when `closing` is cancelled.
    pub fn new(store: Store, required: bool, closing: CancellationToken) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                required,
                closing,
                attempts: Attempts::default(),
                streams: OpenStreams::default(),
            }),
        }
    }

    /// Whether whoever asks has to say who they are.
    pub(super) fn is_required(&self) -> bool {
        self.inner.required
    }

    /// Ends open streams whose token or login has ended, until it closes.
    pub(super) async fn watch(self) {
        let Inner { store, closing, .. } = &*self.inner;
        self.inner.streams.watch(store, closing).await;
    }

    /// Whose secret this is.
    ///
    /// # Errors
    /// 401 for one that is not known or has ended, 429 after too many of those,
    /// 503 without the database.
    pub(super) async fn recognise(
        &self,
        peer: IpAddr,
        shown: &Shown,
    ) -> Result<Principal, ApiError> {
        let (what, fingerprint) = (shown.what(), shown.fingerprint());
        let attempt = self.inner.attempts.begin(peer, fingerprint)?;
        let refused = |how| Err(ApiError::Unauthorized(format!("this {what} {how}")));
        let Some(fingerprint) = fingerprint else {
            return refused("is not one of this server");
        };
        let store = &self.inner.store;
        let found = match shown {
            Shown::Token(_) => store.bearer(&fingerprint).await,
            Shown::Session(_) => store.session(&fingerprint).await,
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                attempt.withdraw();
                return Err(ApiError::Unavailable(format!(
                    "who asks cannot be told: {}",
                    chain(&error)
                )));
            }
        };
        let state = found.as_ref().map(|bearer| bearer.state);
        let Some(bearer) = found.filter(|bearer| bearer.state == CredentialState::Live) else {
            attempt.failed();
            let how = match state {
                Some(CredentialState::Expired) => "has expired",
                Some(_) => "was revoked",
                None => "is not known",
            };
            // Bounded by the limit on attempts.
            info!(%peer, "refused: this {what} {how}");
            return refused(how);
        };
        attempt.succeeded();
        self.note_use(&bearer).await;
        let session = matches!(shown, Shown::Session(_)).then_some(fingerprint);
        Ok(Principal {
            token: bearer.token,
            name: bearer.name,
            scope: bearer.scope,
            session,
        })
    }

    async fn note_use(&self, bearer: &Bearer) {
        if !bearer.use_unrecorded {
            return;
        }
        if let Err(error) = self.inner.store.record_token_use(bearer.token).await {
            let error = &error as &dyn std::error::Error;
            debug!(error, token = bearer.name, "the use is not noted");
        }
    }
}

/// Lets a request through to its handler if whoever asks may do that.
pub(super) async fn admit(
    State((access, rules)): State<(Access, Arc<Rules>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or(request.uri().path(), MatchedPath::as_str);
    let needed = rules.of(request.method(), path);
    let (true, Some(needed)) = (access.is_required(), needed) else {
        return next.run(request).await;
    };
    let asked = Asked::of(&request);
    match asked.principal(&access, needed).await {
        Ok(principal) => {
            let actor = Actor(format!("api:{}", principal.name).into());
            request.extensions_mut().insert(actor);
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(error) => {
            let gone = matches!(error, ApiError::Unauthorized(_));
            let mut response = error.into_response();
            if gone && asked.with_cookie() {
                clear_cookie(response.headers_mut());
            }
            response
        }
    }
}

/// What of a request tells who asks.
struct Asked {
    shown: Option<Shown>,
    peer: IpAddr,
    /// Whether it changes something on the word of a cookie alone, which the
    /// browser sends whoever made it ask.
    on_a_cookie_alone: bool,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let (headers, shown) = (request.headers(), shown(request.headers()));
        let safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let cookie = matches!(shown, Some(Shown::Session(_)));
        Self {
            shown,
            peer: peer(request.extensions()),
            on_a_cookie_alone: cookie && !safe && without_csrf_header(headers),
        }
    }

    fn with_cookie(&self) -> bool {
        matches!(self.shown, Some(Shown::Session(_)))
    }

    async fn principal(&self, access: &Access, needed: Scope) -> Result<Principal, ApiError> {
        let Some(shown) = &self.shown else {
            return Err(ApiError::Unauthorized(
                "send a token as \"Authorization: Bearer\", or log in on the page".to_owned(),
            ));
        };
        if self.on_a_cookie_alone {
            return Err(ApiError::Forbidden(
                "a login's cookie is not enough to change something: send X-Kindler-CSRF too"
                    .to_owned(),
            ));
        }
        let principal = access.recognise(self.peer, shown).await?;
        if principal.scope < needed {
            return Err(ApiError::Forbidden(format!(
                "token {} may {}: this takes one that may {needed}",
                principal.name, principal.scope
            )));
        }
        Ok(principal)
    }
}

/// The address that a request came from.
pub(super) fn peer(extensions: &Extensions) -> IpAddr {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(peer)| peer.ip())
}
