//! What a person can change when the server or TLS refuses a connection. The messages of
//! server and library name what is wrong, but not the setting.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::tls::{Tls, TlsMode};
use crate::cause::chain;

/// Whether the server refuses this user, address or encryption before it asks for a password.
pub(super) fn is_refused(error: &Error) -> bool {
    error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// Whether TLS could not be set up. The library has no other sign of it.
pub(super) fn is_tls(error: &Error) -> bool {
    error
        .to_string()
        .starts_with("error performing TLS handshake")
}

/// The setting that most likely has to be changed, if there is one.
pub(super) fn advice(tls: &Tls, error: &Error) -> Option<&'static str> {
    if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) {
        return Some(
            "too many connections: close idle sessions (pg_stat_activity lists them), or raise max_connections or the CONNECTION LIMIT of role or database; lower KINDLER_CONCURRENCY if Kindler uses them",
        );
    }
    let text = chain(error);
    let has = |part| text.contains(part);
    if is_refused(error) {
        return match tls.mode {
            _ if has("certificate") && !tls.has_certificate() => Some(
                "the server requires a client certificate: set sslcert and sslkey in the database URL",
            ),
            TlsMode::Disable => Some(
                "the server may accept only TLS: remove sslmode=disable from the database URL, or set sslmode=require",
            ),
            TlsMode::VerifyCa | TlsMode::VerifyFull if has("SSL") => Some(
                "the server may accept no TLS from this user or address: if that is intended, set sslmode=prefer in the database URL",
            ),
            _ => None,
        };
    }
    if has("server does not support TLS") {
        Some("the server has no TLS: switch it on there, or set sslmode=prefer in the database URL")
    } else if has("UnknownIssuer") {
        Some(
            "the CA of the server is not known: name its file with sslrootcert in the database URL",
        )
    } else if has("not valid for name") {
        Some(
            "the certificate names another host: connect by its name, or set sslmode=verify-ca in the database URL",
        )
    } else if has("received fatal alert") && tls.has_certificate() {
        Some("the server does not accept the certificate that sslcert names")
    } else {
        None
    }
}
