//! Checks host, origin, size and content type of requests to the API and the
//! page. Health and metrics are exempt.
//!
//! On the loopback address every local user may do everything, so any web page
//! in a local browser could attack the API. Therefore a request must name this
//! host (against DNS rebinding), must come from a page of this host or of an
//! allowed origin, and must carry JSON, which a form cannot send. `access`
//! authenticates the sender.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::error::ApiError;

/// Maximum size of a request body, in bytes.
const MAX_BODY: usize = 1 << 20;

/// The page loads its own files and nothing else.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Which hosts and origins are allowed.
#[derive(Clone, Debug)]
pub struct OriginPolicy {
    /// The address on which the server listens.
    pub address: SocketAddr,
    /// Further host names of this server, as `kindler.example.org`: lower case,
    /// without a final dot; with a port, allowed on that port only.
    pub allowed_hosts: Arc<[String]>,
    /// Origins whose pages may call this server, as `https://ops.example.org`.
    pub allowed_origins: Arc<[String]>,
}

impl OriginPolicy {
    /// Whether a `Host` names this server.
    fn allows_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let name = without_port(&host);
        let port = &host[name.len()..];
        let name = name.strip_suffix('.').unwrap_or(name);
        let with_port = format!("{name}{port}");
        matches!(name, "localhost" | "127.0.0.1" | "[::1]")
            || name == host_of(self.address.ip())
            || self
                .allowed_hosts
                .iter()
                .any(|known| *known == name || *known == with_port)
    }

    /// Whether a request comes from a page of this server, from a page of an
    /// allowed origin, or from no page at all. Browsers mark every request of
    /// other pages, with `Origin` or at least with `Sec-Fetch-Site`.
    fn allows_origin(&self, headers: &HeaderMap, host: &str) -> bool {
        match text(headers, header::ORIGIN) {
            Some(origin) => {
                let own = origin.split_once("://").map(|(_, from)| from) == Some(host);
                own || self.allowed_origins.iter().any(|known| known == origin)
            }
            None => {
                let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
                matches!(site, None | Some(b"same-origin" | b"none"))
            }
        }
    }
}

/// An address in the form of a `Host` header.
fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Removes the port, as from `[::1]:8080` and `localhost:8080`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

/// Adds the checks to routes.
pub(super) fn with_checks(policy: OriginPolicy, routes: Router) -> Router {
    let cors = cors(&policy);
    let routes = routes
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(policy, check));
    match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    }
}

/// Lets pages of the allowed origins read responses. They authenticate with a
/// token: the session cookie is for this server's own page, so CORS allows
/// neither credentials nor the CSRF header.
fn cors(policy: &OriginPolicy) -> Option<CorsLayer> {
    let origins = policy.allowed_origins.iter();
    let origins: Vec<HeaderValue> = origins.filter_map(|one| one.parse().ok()).collect();
    let methods = [Method::GET, Method::POST, Method::PATCH, Method::DELETE];
    let headers = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        HeaderName::from_static("last-event-id"),
    ];
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods(methods)
            .allow_headers(headers)
            .expose_headers([
                header::ETAG,
                header::LINK,
                header::RETRY_AFTER,
                HeaderName::from_static("x-total-count"),
            ])
    })
}

async fn check(State(policy): State<OriginPolicy>, request: Request, next: Next) -> Response {
    let api = request.uri().path().starts_with("/api");
    let mut response = match rejection(&policy, &request) {
        Some(rejected) => rejected.into_response(),
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

/// Why a request is rejected, if it is.
fn rejection(policy: &OriginPolicy, request: &Request) -> Option<ApiError> {
    let headers = request.headers();
    let host = text(headers, header::HOST)
        .or_else(|| {
            request
                .uri()
                .authority()
                .map(|authority| authority.as_str())
        })
        .unwrap_or_default();
    if !policy.allows_host(host) {
        return Some(ApiError::Forbidden(format!(
            "host {host:?} is not a name of this server: add it to KINDLER_ALLOWED_HOSTS"
        )));
    }
    let safe = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let upgrade = headers.contains_key(header::UPGRADE);
    if (!safe || upgrade) && !policy.allows_origin(headers, host) {
        let origin = text(headers, header::ORIGIN).unwrap_or("another site");
        return Some(ApiError::Forbidden(format!(
            "a page of {origin:?} may not send this request: add its origin to \
             KINDLER_ALLOWED_ORIGINS"
        )));
    }
    let length = text(headers, header::CONTENT_LENGTH).unwrap_or("0");
    let has_body = length != "0" || headers.contains_key(header::TRANSFER_ENCODING);
    let json = text(headers, header::CONTENT_TYPE)
        .and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    (!safe && has_body && !json).then(|| ApiError::Rejected {
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

    fn policy(address: &str) -> OriginPolicy {
        OriginPolicy {
            address: address.parse().unwrap(),
            allowed_hosts: Arc::new(["kindler.example.org".to_owned(), "ops:8443".to_owned()]),
            allowed_origins: Arc::new(["https://ops.example.org".to_owned()]),
        }
    }

    #[test]
    fn only_hosts_of_this_server_are_allowed() {
        let policy = policy("127.0.0.1:8080");
        for good in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "[::1]:8080",
            "kindler.example.org:443",
            "Kindler.Example.ORG",
            "kindler.example.org.",
            "KINDLER.example.org.:443",
            "LocalHost.:8080",
            "ops:8443",
            "OPS.:8443",
        ] {
            assert!(policy.allows_host(good), "{good}");
        }
        for bad in [
            "",
            "evil.example.org",
            "kindler.example.org..",
            ".",
            "ops",
            "ops:8444",
            "localhost.evil.org",
            "127.0.0.1.evil.org:8080",
            "::1",
        ] {
            assert!(!policy.allows_host(bad), "{bad}");
        }
        assert!(self::policy("[2001:db8::7]:80").allows_host("[2001:db8::7]:80"));
    }

    #[test]
    fn only_pages_of_allowed_origins_may_change_anything() {
        let policy = policy("127.0.0.1:8080");
        for (header, value, allowed) in [
            ("origin", "http://localhost:8080", true),
            ("origin", "https://ops.example.org", true),
            ("origin", "https://ops.example.org.evil.org", false),
            ("origin", "http://localhost:3000", false),
            ("origin", "null", false),
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "none", true),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "cross-site", false),
            ("accept", "*/*", true),
        ] {
            let headers = [(header, value)].map(|(name, value)| {
                let name = header::HeaderName::from_static(name);
                (name, value.parse().unwrap())
            });
            let headers = headers.into_iter().collect();
            let found = policy.allows_origin(&headers, "localhost:8080");
            assert_eq!(found, allowed, "{header}: {value}");
        }
    }
}
