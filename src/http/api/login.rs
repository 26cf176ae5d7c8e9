//! The login of the page: exchanges a token for the cookie of a session. Scripts
//! cannot read the cookie, and the session ends with the token.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tracing::info;

use crate::access::{SECRET_BYTES, Secret};

use super::super::access::{Credential, clear_cookie, lacks_csrf_header, peer, session_cookie};
use super::super::error::ApiError;
use super::Api;
use super::body::BodyFields;

/// Maximum lifetime of a session; it may end with its token before.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Maximum number of sessions of a token; a new one ends the oldest.
const MAX_SESSIONS: i64 = 100;

/// Whether this server requires a token, and the token that the request carries.
#[utoipa::path(get, path = "/api/session", tag = "login", security(()),
    responses((status = 200, description = "auth (open or token); name and scope of the token, null without a valid one")))]
pub(super) async fn session(
    State(api): State<Api>,
    extensions: Extensions,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if !api.access.is_required() {
        let open = json!({ "auth": "open", "name": Value::Null, "scope": Value::Null });
        return Ok(Json(open).into_response());
    }
    let anonymous = json!({ "auth": "token", "name": Value::Null, "scope": Value::Null });
    let Some(credential) = Credential::of(&headers) else {
        return Ok(Json(anonymous).into_response());
    };
    match api
        .access
        .authenticate(peer(&extensions), &credential)
        .await
    {
        Ok(principal) => {
            let body = json!({ "auth": "token", "name": principal.name, "scope": principal.scope });
            Ok(Json(body).into_response())
        }
        Err(ApiError::Unauthorized(_)) => {
            let mut response = Json(anonymous).into_response();
            if matches!(credential, Credential::Session(_)) {
                clear_cookie(response.headers_mut());
            }
            Ok(response)
        }
        Err(other) => Err(other),
    }
}

/// Log in: exchange a token for a session cookie.
#[utoipa::path(post, path = "/api/login", tag = "login", security(()),
    request_body(content = Object, description = "token"),
    responses((status = 204, description = "sets the session cookie"), (status = 401, description = "invalid token"), (status = 403, description = "the header X-Kindler-CSRF is missing"), (status = 422), (status = 429)))]
pub(super) async fn login(
    State(api): State<Api>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    require_csrf_header(&headers)?;
    let mut fields = BodyFields::of_body(&body)?;
    let token: Option<String> = fields.required("token");
    fields.finish()?;
    let credential = Credential::Token(Secret::parse_token(&token.unwrap_or_default()));
    let peer = peer(&extensions);
    let principal = api.access.authenticate(peer, &credential).await?;
    let mut random = [0; SECRET_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| ApiError::Internal(format!("no random bytes: {error}")))?;
    let secret = Secret::session(random);
    let fingerprint = secret.fingerprint();
    let opened = api
        .store
        .open_session(
            principal.token,
            &fingerprint,
            LIFETIME.as_secs_f64(),
            MAX_SESSIONS,
        )
        .await?;
    info!(token = principal.name, %peer, "logged in");
    let cookie = session_cookie(&headers, &secret, LIFETIME);
    match cookie.filter(|_| opened) {
        Some(cookie) => {
            Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
        }
        None => Err(ApiError::Unauthorized("this token was revoked".to_owned())),
    }
}

/// Log out: ends the session.
#[utoipa::path(post, path = "/api/logout", tag = "login", security(()),
    responses((status = 204), (status = 403, description = "the header X-Kindler-CSRF is missing")))]
pub(super) async fn logout(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    require_csrf_header(&headers)?;
    if let Some(credential @ Credential::Session(_)) = Credential::of(&headers)
        && let Some(fingerprint) = credential.fingerprint()
    {
        api.store.close_session(&fingerprint).await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    clear_cookie(response.headers_mut());
    Ok(response)
}

/// Pages of other sites must not log a user in or out.
fn require_csrf_header(headers: &HeaderMap) -> Result<(), ApiError> {
    if lacks_csrf_header(headers) {
        return Err(ApiError::Forbidden(
            "the header X-Kindler-CSRF is missing".to_owned(),
        ));
    }
    Ok(())
}

/// All tokens with their scope and last use; never their secrets.
#[utoipa::path(get, path = "/api/tokens", tag = "login", security(("token" = ["admin"])),
    responses((status = 200, body = Vec<Object>)))]
pub(super) async fn tokens(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!(api.store.tokens().await?)))
}
