//! Readers of argument values that also tell completions what is possible.
//! The errors are those of the domain, so that the CLI and SQL say the same.

use std::ffi::OsStr;
use std::time::Duration;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error};

use crate::access::Scope;
use crate::clusters::{Port, Provider, SpecError};
use crate::config::{LimitError, duration_within};

/// Reads a provider.
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
        let words = Provider::ALL
            .into_iter()
            .map(|p| PossibleValue::new(p.as_str()));
        Some(Box::new(words))
    }
}

/// Reads a port of this column.
pub(super) fn port(field: &'static str) -> impl Fn(&str) -> Result<Port, SpecError> + Clone {
    move |text| Port::parse(field, text)
}

/// Reads a scope.
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
        let words = Scope::ALL
            .into_iter()
            .map(|scope| PossibleValue::new(scope.as_str()));
        Some(Box::new(words))
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads how long a token lives; days are what people think of, and no other
/// setting is that long.
pub(super) fn token_life(text: &str) -> Result<Duration, LimitError> {
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
    fn a_tokens_life_is_told_in_days_or_less() {
        assert_eq!(token_life("30d").unwrap(), 30 * DAY);
        assert_eq!(token_life("90m").unwrap(), Duration::from_secs(5400));
        for bad in ["30", "0d", "5s", "3651d", "-1d", "99999999999d", "d", ""] {
            let told = token_life(bad).unwrap_err().to_string();
            assert!(told.starts_with("expires"), "{bad}: {told}");
        }
    }
}
