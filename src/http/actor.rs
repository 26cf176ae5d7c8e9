//! The actor of a request, for the audit log.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// The actor of a request, written to the audit log: `api:TOKEN-NAME`, or `api`
/// without authentication.
#[derive(Clone, Debug)]
pub struct Actor(pub Arc<str>);

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let known = parts.extensions.get::<Self>().cloned();
        Ok(known.unwrap_or_else(|| Self("api".into())))
    }
}
