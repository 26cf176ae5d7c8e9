//! Formats an error with its causes.

use std::error::Error;

/// An error and its causes on one line. A cause that the message already ends with is
/// skipped: some libraries repeat their cause.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let message = cause.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        next = cause.source();
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading {0} failed")]
    struct Outer(&'static str, #[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("no answer: {0}")]
    struct Middle(#[source] std::fmt::Error);

    #[test]
    fn causes_follow_without_repetition() {
        let inner = std::fmt::Error;
        let text = chain(&Outer("it", Middle(inner)));
        assert_eq!(text, format!("reading it failed: no answer: {inner}"));
    }
}
