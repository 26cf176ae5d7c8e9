//! The page's login: a token is exchanged for a cookie that scripts cannot
//! read, and that ends with the token.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tracing::info;

use crate::access::{SECRET_BYTES, Secret};

use super::super::access::{Shown, clear_cookie, peer, session_cookie, shown, without_csrf_header};
use super::super::error::ApiError;
use super::Api;
use super::body::Fields;

/// How long a login lasts, if its token does.
const LIFE: Duration = Duration::from_secs(12 * 3600);
/// So many logins a token may have at a time; the oldest goes.
const MOST_LOGINS: i64 = 100;

/// Whether this server requires a token, and the token that the request carries.
#[utoipa::path(get, path = "/api/session", tag = "login", security(()),
    responses((status = 200, description = "auth (open or token); name and scope of the token, null without a valid one")))]
pub(super) async fn session(
    State(api): State<Api>,
    extensions: Extensions,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if !api.access.is_required() {
        let told = json!({ "auth": "open", "name": Value::Null, "scope": Value::Null });
        return Ok(Json(told).into_response());
    }
    let nobody = json!({ "auth": "token", "name": Value::Null, "scope": Value::Null });
    let Some(shown) = shown(&headers) else {
        return Ok(Json(nobody).into_response());
    };
    match api.access.recognise(peer(&extensions), &shown).await {
        Ok(who) => {
            let told = json!({ "auth": "token", "name": who.name, "scope": who.scope });
            Ok(Json(told).into_response())
        }
        Err(ApiError::Unauthorized(_)) => {
            let mut response = Json(nobody).into_response();
            if matches!(shown, Shown::Session(_)) {
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
    from_a_page_of_ours(&headers)?;
    let mut fields = Fields::of_body(&body)?;
    let token: Option<String> = fields.required("token");
    fields.finish()?;
    let shown = Shown::Token(Secret::parse_token(&token.unwrap_or_default()));
    let who = api.access.recognise(peer(&extensions), &shown).await?;
    let mut random = [0; SECRET_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| ApiError::Internal(format!("no random bytes: {error}")))?;
    let secret = Secret::session(random);
    let fingerprint = secret.fingerprint();
    let begun = api
        .store
        .open_session(who.token, &fingerprint, LIFE.as_secs_f64(), MOST_LOGINS)
        .await?;
    info!(token = who.name, peer = %peer(&extensions), "logged in");
    let cookie = session_cookie(&headers, &secret, LIFE);
    match cookie.filter(|_| begun) {
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
    from_a_page_of_ours(&headers)?;
    if let Some(shown @ Shown::Session(_)) = shown(&headers)
        && let Some(fingerprint) = shown.fingerprint()
    {
        api.store.close_session(&fingerprint).await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    clear_cookie(response.headers_mut());
    Ok(response)
}

/// Nobody else's page may log somebody in or out here.
fn from_a_page_of_ours(headers: &HeaderMap) -> Result<(), ApiError> {
    if without_csrf_header(headers) {
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
