//! The credential of a request, a token or a session cookie, and the cookie
//! itself.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};

use crate::access::{Fingerprint, Secret};

/// The session cookie.
const COOKIE: &str = "kindler_session";
/// The session cookie over TLS: with this prefix, pages on sibling hosts, such
/// as the services of the clusters, cannot set it.
const TLS_COOKIE: &str = "__Host-kindler_session";

/// The page sends this header with every request; pages of other sites cannot.
const CSRF_HEADER: &str = "x-kindler-csrf";

/// The credential of a request; `None` inside if it is malformed.
#[derive(Debug)]
pub(in crate::http) enum Credential {
    Token(Option<Secret>),
    Session(Option<Secret>),
}

impl Credential {
    /// Reads the credential of a request; a token takes precedence over a cookie.
    pub(in crate::http) fn of(headers: &HeaderMap) -> Option<Self> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let text = value.to_str().unwrap_or_default();
            let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
            // Other schemes are meant for a proxy in front of this server.
            if scheme.eq_ignore_ascii_case("bearer") {
                return Some(Self::Token(Secret::parse_token(rest.trim())));
            }
        }
        let value = cookie(headers, TLS_COOKIE).or_else(|| cookie(headers, COOKIE))?;
        Some(Self::Session(Secret::parse_session(value)))
    }

    pub(in crate::http) fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Self::Token(secret) | Self::Session(secret) => secret.as_ref().map(Secret::fingerprint),
        }
    }

    /// The kind of credential, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Session(_) => "session",
        }
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    let mut pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    pairs.find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Whether the CSRF header is missing.
pub(in crate::http) fn lacks_csrf_header(headers: &HeaderMap) -> bool {
    headers.get(CSRF_HEADER).is_none_or(HeaderValue::is_empty)
}

/// The cookie of a new session; `Secure` if the browser uses TLS, which a proxy
/// terminates. The request headers can be trusted for that: a client that forges
/// them only makes its own cookie stricter.
pub(in crate::http) fn session_cookie(
    request: &HeaderMap,
    secret: &Secret,
    lifetime: Duration,
) -> Option<HeaderValue> {
    let starts = |name: header::HeaderName, prefix: &str| {
        let value = request.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.trim().starts_with(prefix))
    };
    let forwarded = header::HeaderName::from_static("x-forwarded-proto");
    let tls = starts(header::ORIGIN, "https://") || starts(forwarded, "https");
    let (name, secure) = if tls {
        (TLS_COOKIE, "; Secure")
    } else {
        (COOKIE, "")
    };
    let text = format!(
        "{name}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
        secret.expose(),
        lifetime.as_secs()
    );
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Makes the browser delete both cookies.
pub(in crate::http) fn clear_cookie(response: &mut HeaderMap) {
    for text in [
        "kindler_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0",
        "__Host-kindler_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0; Secure",
    ] {
        response.append(header::SET_COOKIE, HeaderValue::from_static(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = header::HeaderName::from_static(name);
            (name, value.parse().unwrap())
        });
        pairs.collect()
    }

    #[test]
    fn a_token_precedes_a_cookie_and_other_schemes_are_ignored() {
        let token = Secret::token([1; 32]);
        let bearer = format!("bearer  {}", token.expose());
        let session = Secret::session([2; 32]);
        let cookie = format!("a=b; kindler_session={}; c=d", session.expose());
        let both = headers(&[("authorization", &bearer), ("cookie", &cookie)]);
        let fingerprint = |headers: &HeaderMap| Credential::of(headers).unwrap().fingerprint();
        assert_eq!(fingerprint(&both), Some(token.fingerprint()));
        // A sibling host can set only the cookie without the prefix.
        let foreign = Secret::session([3; 32]);
        let cookies = format!(
            "kindler_session={}; __Host-kindler_session={}",
            foreign.expose(),
            session.expose()
        );
        let cookies = headers(&[("cookie", &cookies)]);
        assert_eq!(fingerprint(&cookies), Some(session.fingerprint()));
        let basic = headers(&[("authorization", "Basic eDp5"), ("cookie", &cookie)]);
        assert_eq!(fingerprint(&basic), Some(session.fingerprint()));
        for none in [
            ("authorization", "Basic eDp5"),
            ("cookie", "kindler_sessions=x; y"),
        ] {
            assert!(Credential::of(&headers(&[none])).is_none());
        }
        for broken in ["Bearer", "Bearer ", "Bearer kdl_short", "Bearer a b"] {
            let found = Credential::of(&headers(&[("authorization", broken)]));
            assert!(matches!(found, Some(Credential::Token(None))), "{broken}");
        }
    }

    #[test]
    fn a_session_cookie_over_tls_is_secure() {
        let secret = Secret::session([2; 32]);
        let cookie = |pairs: &[(&'static str, &str)]| {
            let value = session_cookie(&headers(pairs), &secret, Duration::from_secs(60));
            value.unwrap().to_str().unwrap().to_owned()
        };
        let plain = cookie(&[("origin", "http://localhost:8080")]);
        assert!(plain.contains("HttpOnly; SameSite=Strict; Max-Age=60"));
        assert!(!plain.contains("Secure"));
        for tls in [
            ("origin", "https://k.example.org"),
            ("x-forwarded-proto", "https"),
        ] {
            let cookie = cookie(&[tls]);
            assert!(cookie.starts_with("__Host-") && cookie.ends_with("; Secure"));
        }
    }
}
