//! Parsers of argument values that also give the possible values for
//! completions. The errors are those of the domain, so that the CLI and SQL have
//! the same messages.

use std::ffi::OsStr;
use std::time::Duration;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error};

use crate::access::Scope;
use crate::clusters::{Port, Provider, SpecError};
use crate::config::{LimitError, duration_within};

/// Parses a provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProviderParser;

impl TypedValueParser for ProviderParser {
    type Value = Provider;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Provider, Error> {
        StringValueParser::new()
            .try_map(|text| text.parse::<Provider>())
            .parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values = Provider::ALL
            .into_iter()
            .map(|p| PossibleValue::new(p.as_str()));
        Some(Box::new(values))
    }
}

/// Parses a port for this column.
pub(super) fn port(field: &'static str) -> impl Fn(&str) -> Result<Port, SpecError> + Clone {
    move |text| Port::parse(field, text)
}

/// Parses a scope.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScopeParser;

impl TypedValueParser for ScopeParser {
    type Value = Scope;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Scope, Error> {
        StringValueParser::new()
            .try_map(|text| text.parse::<Scope>())
            .parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values = Scope::ALL
            .iter()
            .map(|scope| PossibleValue::new(scope.as_str()));
        Some(Box::new(values))
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Parses the lifetime of a token: a duration, or days, which other settings do
/// not need.
pub(super) fn token_lifetime(text: &str) -> Result<Duration, LimitError> {
    let limits = Duration::from_secs(60)..=3650 * DAY;
    let days = text.strip_suffix('d').and_then(|n| n.parse::<u32>().ok());
    match days {
        Some(days) => {
            let hours = format!("{}h", u64::from(days) * 24);
            duration_within("expires", limits)(&hours)
        }
        None => duration_within("expires", limits)(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lifetime_may_have_days() {
        assert_eq!(token_lifetime("30d").unwrap(), 30 * DAY);
        assert_eq!(token_lifetime("90m").unwrap(), Duration::from_secs(5400));
        for bad in ["30", "0d", "5s", "3651d", "-1d", "99999999999d", "d", ""] {
            let error = token_lifetime(bad).unwrap_err().to_string();
            assert!(error.starts_with("expires"), "{bad}: {error}");
        }
    }
}
