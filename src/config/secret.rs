//! A database URL. It may contain a password, so it is never printed.

use std::convert::Infallible;
use std::fmt;

/// A database URL. Only [`DatabaseUrl::expose`] shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Accepts any text. [`crate::core::database::Database::parse`] checks it, and its
    /// errors do not repeat the URL.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For clap: never fails, because clap's errors would show the value.
    pub(super) fn accept(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }

    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(not shown)")
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_not_printed() {
        let url = DatabaseUrl::new("postgresql://u:hunter2@h/d");
        assert!(!format!("{url} {url:?}").contains("hunter2"));
    }
}
