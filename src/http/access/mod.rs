//! Authentication and authorization: every API request passes here. The scope
//! that an operation needs comes from the OpenAPI document.
//!
//! On a loopback address no credential is needed, unless the settings require
//! one. Elsewhere a request carries a token (`Authorization: Bearer`) or the
//! cookie of a session. Each is looked up at every request: after a revocation
//! the next request fails, and open streams end within seconds.
//!
//! This module must not log, store or return a secret.

mod credential;
mod rate_limit;
mod rules;
mod stream_lifetime;

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
use rate_limit::RateLimiter;
use stream_lifetime::OpenStreams;

pub(super) use credential::{Credential, clear_cookie, lacks_csrf_header, session_cookie};
pub(super) use rules::{ScopeRules, annotate};
pub(super) use stream_lifetime::StreamLifetime;

/// Checks the credentials of requests; cheap to clone.
#[derive(Clone)]
pub struct Access {
    inner: Arc<AccessInner>,
}

struct AccessInner {
    store: Store,
    required: bool,
    closing: CancellationToken,
    limiter: RateLimiter,
    streams: OpenStreams,
}

/// The identity behind a valid credential.
#[derive(Clone, Debug)]
pub(super) struct Principal {
    /// The token's id.
    pub(super) token: i64,
    /// The token's name.
    pub(super) name: String,
    pub(super) scope: Scope,
    /// The session, if the request carries its cookie instead of the token.
    session: Option<Fingerprint>,
}

impl Access {
    /// Looks up tokens in `store`. If they are not `required`, every request is
    /// allowed. Open streams end when `closing` is cancelled.
    pub fn new(store: Store, required: bool, closing: CancellationToken) -> Self {
        Self {
            inner: Arc::new(AccessInner {
                store,
                required,
                closing,
                limiter: RateLimiter::default(),
                streams: OpenStreams::default(),
            }),
        }
    }

    /// Whether requests need a credential.
    pub(super) fn is_required(&self) -> bool {
        self.inner.required
    }

    /// Ends open streams whose credential is no longer valid, until it closes.
    pub(super) async fn watch(self) {
        let AccessInner { store, closing, .. } = &*self.inner;
        self.inner.streams.watch(store, closing).await;
    }

    /// The identity behind a credential.
    ///
    /// # Errors
    /// 401 for an invalid credential, 429 after too many of them, 503 without the
    /// database.
    pub(super) async fn authenticate(
        &self,
        peer: IpAddr,
        credential: &Credential,
    ) -> Result<Principal, ApiError> {
        let (kind, fingerprint) = (credential.kind(), credential.fingerprint());
        let attempt = self.inner.limiter.begin(peer, fingerprint)?;
        let rejected = |why| Err(ApiError::Unauthorized(format!("this {kind} {why}")));
        let Some(fingerprint) = fingerprint else {
            return rejected("is malformed");
        };
        let store = &self.inner.store;
        let found = match credential {
            Credential::Token(_) => store.bearer(&fingerprint).await,
            Credential::Session(_) => store.session(&fingerprint).await,
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                attempt.withdraw();
                return Err(ApiError::Unavailable(format!(
                    "the credentials cannot be checked: {}",
                    chain(&error)
                )));
            }
        };
        let state = found.as_ref().map(|bearer| bearer.state);
        let Some(bearer) = found.filter(|bearer| bearer.state == CredentialState::Live) else {
            attempt.failed();
            let why = match state {
                Some(CredentialState::Expired) => "has expired",
                Some(_) => "was revoked",
                None => "is unknown",
            };
            // The rate limiter bounds how often this is logged.
            info!(%peer, "rejected: this {kind} {why}");
            return rejected(why);
        };
        attempt.succeeded();
        self.note_use(&bearer).await;
        let session = matches!(credential, Credential::Session(_)).then_some(fingerprint);
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
            debug!(
                error,
                token = bearer.name,
                "cannot record the use of a token"
            );
        }
    }
}

/// Passes a request to its handler if its credential has the scope.
pub(super) async fn authorize(
    State((access, rules)): State<(Access, Arc<ScopeRules>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or(request.uri().path(), MatchedPath::as_str);
    let needed = rules.of(request.method(), path);
    let (true, Some(needed)) = (access.is_required(), needed) else {
        return next.run(request).await;
    };
    let credentials = RequestCredentials::of(&request);
    match credentials.principal(&access, needed).await {
        Ok(principal) => {
            let actor = Actor(format!("api:{}", principal.name).into());
            request.extensions_mut().insert(actor);
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(error) => {
            let invalid = matches!(error, ApiError::Unauthorized(_));
            let mut response = error.into_response();
            if invalid && credentials.has_cookie() {
                clear_cookie(response.headers_mut());
            }
            response
        }
    }
}

/// The parts of a request that identify its sender.
struct RequestCredentials {
    credential: Option<Credential>,
    peer: IpAddr,
    /// Whether a cookie alone authenticates a change. The browser sends cookies
    /// with requests from any site, so that could be a CSRF attack.
    lacks_csrf_header: bool,
}

impl RequestCredentials {
    fn of(request: &Request) -> Self {
        let headers = request.headers();
        let credential = Credential::of(headers);
        let safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let cookie = matches!(credential, Some(Credential::Session(_)));
        Self {
            credential,
            peer: peer(request.extensions()),
            lacks_csrf_header: cookie && !safe && lacks_csrf_header(headers),
        }
    }

    fn has_cookie(&self) -> bool {
        matches!(self.credential, Some(Credential::Session(_)))
    }

    async fn principal(&self, access: &Access, needed: Scope) -> Result<Principal, ApiError> {
        let Some(credential) = &self.credential else {
            return Err(ApiError::Unauthorized(
                "send a token as \"Authorization: Bearer\", or log in on the page".to_owned(),
            ));
        };
        if self.lacks_csrf_header {
            return Err(ApiError::Forbidden(
                "a change with a session cookie needs the header X-Kindler-CSRF".to_owned(),
            ));
        }
        let principal = access.authenticate(self.peer, credential).await?;
        if principal.scope < needed {
            return Err(ApiError::Forbidden(format!(
                "token {} has the scope {}: this request needs the scope {needed}",
                principal.name, principal.scope
            )));
        }
        Ok(principal)
    }
}

/// The client address of a request.
pub(super) fn peer(extensions: &Extensions) -> IpAddr {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(peer)| peer.ip())
}
