//! Readers of argument values that also tell completions what is possible.
//! The errors are those of the domain, so that the CLI and SQL say the same.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error};

use crate::cluster::{Port, Provider, SpecError};

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
    move |text| match text.parse() {
        Ok(number) => Port::new(field, number),
        Err(_) => Err(SpecError::Port {
            field,
            given: text.chars().take(40).collect(),
        }),
    }
}
