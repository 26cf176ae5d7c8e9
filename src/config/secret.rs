//! A database URL as it was given. It may hold a password, so it never prints.

use std::convert::Infallible;
use std::fmt;

/// A database URL that shows itself to nobody who does not ask by name.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Takes any text: whether it can be used is told by
    /// [`crate::store::Database::parse`], whose errors do not repeat it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For clap, whose errors would repeat a value that its parser refuses.
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
    fn a_url_does_not_print() {
        let url = DatabaseUrl::new("postgresql://u:hunter2@h/d");
        assert!(!format!("{url} {url:?}").contains("hunter2"));
    }
}
