//! The name of a cluster: an RFC 1123 label, checked when it is parsed.
//!
//! Arguments, file names, contexts and channels rely on the check, so a [`ClusterName`]
//! cannot be created without it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest RFC 1123 label, in bytes.
pub const MAX_NAME: usize = 63;

/// The management cluster: only observed.
pub const MANAGEMENT_CLUSTER: &str = "devops";

/// Whether a text consists of 1 to 63 lower-case letters, digits and `inner` bytes, with a
/// letter or digit first and last.
pub(crate) fn is_label(text: &str, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.len() <= MAX_NAME
        && bytes.iter().all(|b| alphanumeric(b) || inner.contains(b))
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

/// A checked cluster name: 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit first
/// and last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

/// Why a text is not a cluster name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "name {given:?} is not valid: use 1 to 63 lower-case letters, digits or '-', \
     with a letter or digit first and last"
)]
pub struct NameError {
    /// The rejected text, truncated.
    given: String,
}

impl ClusterName {
    /// Checks a text.
    ///
    /// # Errors
    /// [`NameError`] names the rule when the text is not an RFC 1123 label.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if is_label(text, b"-") {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError {
                given: text.chars().take(MAX_NAME + 1).collect(),
            })
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the management cluster.
    pub fn is_management(&self) -> bool {
        self.0 == MANAGEMENT_CLUSTER
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ClusterName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ClusterName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1123_labels_are_names() {
        for good in ["a", "0", "dev", "my-cluster-2", "a--b", &"x".repeat(63)] {
            assert_eq!(ClusterName::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn other_texts_are_rejected_with_the_rule() {
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a.b",
            "a b",
            "a\n",
            "é",
            "../x",
            &"x".repeat(64),
        ] {
            let error = ClusterName::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("name "), "{error}");
            assert!(error.contains("1 to 63"), "{error}");
        }
    }
}
