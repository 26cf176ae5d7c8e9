//! What a request shows of who asks: a token or a login's cookie; and the
//! cookie itself.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};

use crate::access::{Fingerprint, Secret};

/// The cookie of a login; over TLS under a name that no page of a neighbouring
/// host can set, such as the services of the clusters are.
const COOKIE: &str = "kindler_session";
const COOKIE_OF_TLS: &str = "__Host-kindler_session";

/// What a page of this server sends with every request, and no other page can.
const CSRF_HEADER: &str = "x-kindler-csrf";

/// What was shown; inside, nothing if it cannot be one.
#[derive(Debug)]
pub(in crate::http) enum Shown {
    /// A token.
    Token(Option<Secret>),
    /// A login's cookie.
    Session(Option<Secret>),
}

impl Shown {
    pub(in crate::http) fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Self::Token(secret) | Self::Session(secret) => secret.as_ref().map(Secret::fingerprint),
        }
    }

    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Session(_) => "session",
        }
    }
}

/// What a request shows, if anything. A token goes before a cookie.
pub(in crate::http) fn shown(headers: &HeaderMap) -> Option<Shown> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().unwrap_or_default();
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        // Another scheme is some proxy's before us.
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Shown::Token(Secret::parse_token(rest.trim())));
        }
    }
    let value = cookie(headers, COOKIE_OF_TLS).or_else(|| cookie(headers, COOKIE))?;
    Some(Shown::Session(Secret::parse_session(value)))
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    let mut pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    pairs.find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Whether the header is missing that no form and no other page can send.
pub(in crate::http) fn without_csrf_header(headers: &HeaderMap) -> bool {
    headers.get(CSRF_HEADER).is_none_or(HeaderValue::is_empty)
}

/// The cookie of a login. Over TLS, which a proxy before us speaks, it is for
/// TLS only. The browser's or the proxy's word is enough for that: whoever lies
/// about it makes only their own cookie stricter.
pub(in crate::http) fn session_cookie(
    request: &HeaderMap,
    secret: &Secret,
    life: Duration,
) -> Option<HeaderValue> {
    let says = |name: header::HeaderName, word: &str| {
        let value = request.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.trim().starts_with(word))
    };
    let forwarded = header::HeaderName::from_static("x-forwarded-proto");
    let tls = says(header::ORIGIN, "https://") || says(forwarded, "https");
    let (name, secure) = if tls {
        (COOKIE_OF_TLS, "; Secure")
    } else {
        (COOKIE, "")
    };
    let text = format!(
        "{name}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
        secret.expose(),
        life.as_secs()
    );
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Makes the browser forget the cookie.
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
    fn a_token_goes_before_a_cookie_and_other_schemes_are_not_ours() {
        let token = Secret::token([1; 32]);
        let bearer = format!("bearer  {}", token.expose());
        let session = Secret::session([2; 32]);
        let cookie = format!("a=b; kindler_session={}; c=d", session.expose());
        let both = headers(&[("authorization", &bearer), ("cookie", &cookie)]);
        let fingerprint = |shown: Option<Shown>| shown.unwrap().fingerprint();
        assert_eq!(fingerprint(shown(&both)), Some(token.fingerprint()));
        let (set_by, ours) = (Secret::session([3; 32]), session.fingerprint());
        let neighbour = format!(
            "kindler_session={}; __Host-kindler_session={}",
            set_by.expose(),
            session.expose()
        );
        let neighbour = headers(&[("cookie", &neighbour)]);
        assert_eq!(fingerprint(shown(&neighbour)), Some(ours));
        let basic = headers(&[("authorization", "Basic eDp5"), ("cookie", &cookie)]);
        assert_eq!(fingerprint(shown(&basic)), Some(session.fingerprint()));
        assert!(shown(&headers(&[("authorization", "Basic eDp5")])).is_none());
        assert!(shown(&headers(&[("cookie", "kindler_sessions=x; y")])).is_none());
        for broken in ["Bearer", "Bearer ", "Bearer kdl_short", "Bearer a b"] {
            let shown = shown(&headers(&[("authorization", broken)]));
            assert!(matches!(shown, Some(Shown::Token(None))), "{broken}");
        }
    }

    #[test]
    fn a_cookie_is_for_tls_only_where_the_browser_speaks_tls() {
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
