//! An error together with its causes, for people.

use std::error::Error;

/// An error and its causes on one line, saying nothing twice: some libraries
/// repeat their cause in their own message.
pub fn chain(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let message = cause.to_string();
        if !told.ends_with(&message) {
            told.push_str(": ");
            told.push_str(&message);
        }
        next = cause.source();
    }
    told.lines().map(str::trim).collect::<Vec<_>>().join(" ")
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
    fn causes_follow_and_nothing_is_said_twice() {
        let inner = std::fmt::Error;
        let told = chain(&Outer("it", Middle(inner)));
        assert_eq!(told, format!("reading it failed: no answer: {inner}"));
    }
}
