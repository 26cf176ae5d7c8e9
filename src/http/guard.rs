//! What stands before the API and the page: which hosts and origins may ask,
//! how much, and in what form. Health and metrics are not behind it.
//!
//! On the loopback address everybody on this machine may do everything, and so
//! might any web page that a browser on this machine shows, if it were let:
//! therefore requests must name this host (a rebound name does not), must come
//! from a page of this host, and must carry JSON, which no form can send.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

use super::api::ApiError;

/// The longest body that is read.
const LONGEST_BODY: usize = 1 << 20;

/// What the page may load: its own files and nothing else.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Who is let in.
#[derive(Clone, Debug)]
pub struct Doors {
    /// The address that is served.
    pub address: SocketAddr,
    /// Further names by which this server is called, as `kindler.example.org`.
    pub allowed_hosts: Arc<[String]>,
}

impl Doors {
    /// Whether a `Host` is one of this server's names.
    fn knows(&self, host: &str) -> bool {
        let name = without_port(host);
        matches!(name, "localhost" | "127.0.0.1" | "[::1]")
            || name == self.address.ip().to_string()
            || self
                .allowed_hosts
                .iter()
                .any(|known| known == name || known == host)
    }
}

/// `[::1]:8080` and `localhost:8080` without their port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

/// Puts the doors before routes.
pub(super) fn behind(doors: Doors, routes: Router) -> Router {
    routes
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(middleware::from_fn_with_state(doors, check))
}

async fn check(State(doors): State<Doors>, request: Request, next: Next) -> Response {
    let api = request.uri().path().starts_with("/api");
    let mut response = match refusal(&doors, &request) {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    if api {
        set(header::CACHE_CONTROL, "no-store");
    }
    response
}

/// Why a request is not let in, if it is not.
fn refusal(doors: &Doors, request: &Request) -> Option<ApiError> {
    let headers = request.headers();
    let host = text(headers, header::HOST)
        .or_else(|| {
            request
                .uri()
                .authority()
                .map(|authority| authority.as_str())
        })
        .unwrap_or_default();
    if !doors.knows(host) {
        return Some(ApiError::Forbidden(format!(
            "host {host:?} is not a name of this server: add it to KINDLER_ALLOWED_HOSTS"
        )));
    }
    if !doors.address.ip().is_loopback() && request.uri().path().starts_with("/api") {
        return Some(ApiError::Forbidden(
            "the API is served on a loopback address only, because it asks nobody who they are: \
             set KINDLER_LISTEN to 127.0.0.1:PORT"
                .to_owned(),
        ));
    }
    let safe = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let upgrade = headers.contains_key(header::UPGRADE);
    if (!safe || upgrade)
        && let Some(origin) = text(headers, header::ORIGIN)
        && origin.split_once("://").map(|(_, host)| host) != Some(host)
    {
        return Some(ApiError::Forbidden(format!(
            "a page of {origin:?} may not change anything here"
        )));
    }
    let length = text(headers, header::CONTENT_LENGTH).unwrap_or("0");
    let has_body = length != "0" || headers.contains_key(header::TRANSFER_ENCODING);
    let json = text(headers, header::CONTENT_TYPE)
        .is_some_and(|kind| kind.split(';').next().unwrap_or("").trim() == "application/json");
    (!safe && has_body && !json).then(|| ApiError::Refused {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        detail: "send the body as application/json".to_owned(),
    })
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_server_are_known() {
        let doors = Doors {
            address: "127.0.0.1:8080".parse().unwrap(),
            allowed_hosts: Arc::new(["kindler.example.org".to_owned()]),
        };
        for good in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "[::1]:8080",
            "kindler.example.org:443",
        ] {
            assert!(doors.knows(good), "{good}");
        }
        for bad in [
            "",
            "evil.example.org",
            "localhost.evil.org",
            "127.0.0.1.evil.org:8080",
            "::1",
        ] {
            assert!(!doors.knows(bad), "{bad}");
        }
    }
}
