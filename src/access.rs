//! Scopes, token names, and secrets with their hashes.
//!
//! A secret has 256 random bits, so a plain SHA-256 of it is safe to store: trying
//! 2^256 values is infeasible with any hash. Secrets are never printed. This module
//! generates no randomness and imports nothing of HTTP.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::clusters::{MAX_NAME, is_label};

/// The prefix of every token, so that people and secret scanners recognize one.
const TOKEN_PREFIX: &str = "kdl_";

/// Number of random bytes in a secret.
pub const SECRET_BYTES: usize = 32;

/// Length of these bytes in URL-safe base64 without padding.
const SECRET_TEXT: usize = 43;

/// What a token permits; each scope includes the ones before it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "lowercase", parse_err_ty = ScopeError, parse_err_fn = ScopeError::new)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read everything except keys.
    Read,
    /// Declare, change and delete clusters.
    Write,
    /// Read kubeconfigs and the list of tokens.
    Admin,
}

/// Why a text is not a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scope {given:?} is not known: use read, write or admin")]
pub struct ScopeError {
    given: String,
}

impl ScopeError {
    fn new(given: &str) -> Self {
        let given = given.chars().take(40).collect();
        Self { given }
    }
}

impl Scope {
    /// All scopes, the smallest first.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The scope as a word.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A valid token name. It is the actor in the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenName(String);

/// Why a text is not the name of a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "token name {given:?} is not valid: use 1 to 63 lower-case letters, digits, '.', '_' or '-', \
     with a letter or digit first and last"
)]
pub struct TokenNameError {
    given: String,
}

impl TokenName {
    /// Checks a text.
    ///
    /// # Errors
    /// [`TokenNameError`] names the rule.
    pub fn parse(text: &str) -> Result<Self, TokenNameError> {
        if is_label(text, b"._-") {
            return Ok(Self(text.to_owned()));
        }
        // The caller may have passed the token instead of its name.
        let given = if text.starts_with(TOKEN_PREFIX) {
            format!("{TOKEN_PREFIX}...")
        } else {
            text.chars().take(MAX_NAME + 1).collect()
        };
        Err(TokenNameError { given })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A token or the value of a login cookie. Only [`Secret::expose`] shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A token from random bytes.
    pub fn token(random: [u8; SECRET_BYTES]) -> Self {
        Self(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
    }

    /// The value of a login cookie from random bytes.
    pub fn session(random: [u8; SECRET_BYTES]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(random))
    }

    /// A text with the form of a token.
    pub fn parse_token(text: &str) -> Option<Self> {
        Self::parse_session(text.strip_prefix(TOKEN_PREFIX)?)?;
        Some(Self(text.to_owned()))
    }

    /// A text with the form of a login cookie's value.
    pub fn parse_session(text: &str) -> Option<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let whole = text.len() == SECRET_TEXT && text.bytes().all(fits);
        whole.then(|| Self(text.to_owned()))
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The hash, which is stored instead of the secret.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// All bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The prefix by which the hash is looked up.
    pub fn selector(&self) -> &[u8] {
        &self.0[..8]
    }

    /// Compares with a stored hash in constant time.
    pub fn matches(&self, stored: &[u8]) -> bool {
        self.0.ct_eq(stored).into()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_includes_those_before_it() {
        assert!(Scope::Read < Scope::Write && Scope::Write < Scope::Admin);
        for &scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        let message = "root".parse::<Scope>().unwrap_err().to_string();
        assert!(message.contains("read, write or admin"), "{message}");
    }

    #[test]
    fn a_token_in_place_of_its_name_is_not_shown() {
        for good in ["ci", "a", "alice.b_c-1", &"n".repeat(63)] {
            assert_eq!(TokenName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "A", "-a", "a-", "a b", "a/b", "ä", &"n".repeat(64)] {
            assert!(TokenName::parse(bad).is_err(), "{bad}");
        }
        let token = Secret::token([7; 32]);
        let message = TokenName::parse(token.expose()).unwrap_err().to_string();
        assert!(!message.contains(&token.expose()[4..]), "{message}");
    }

    #[test]
    fn secrets_are_parsed_back_and_not_printed() {
        let token = Secret::token([200; 32]);
        assert_eq!(Secret::parse_token(token.expose()), Some(token.clone()));
        let session = Secret::session([251; 32]);
        assert_eq!(
            Secret::parse_session(session.expose()),
            Some(session.clone())
        );
        for bad in [
            "",
            "kdl_",
            session.expose(),
            &token.expose()[..46],
            "kdl_%AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(Secret::parse_token(bad), None, "{bad}");
        }
        let shown = format!("{token:?} {:?}", token.fingerprint());
        assert!(!shown.contains(&token.expose()[4..]), "{shown}");
    }

    #[test]
    fn a_fingerprint_is_the_sha_256_and_matches_only_itself() {
        let fingerprint = Secret("abc".to_owned()).fingerprint();
        let known = [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea];
        assert_eq!(fingerprint.selector(), known);
        assert!(fingerprint.matches(fingerprint.as_bytes()));
        assert!(!fingerprint.matches(&known));
        let other = Secret("abd".to_owned()).fingerprint();
        assert!(!fingerprint.matches(other.as_bytes()));
    }
}
