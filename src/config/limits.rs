//! Parsers of settings. Their errors name the field and the limit.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::clusters::{Selector, SelectorError};
use crate::duration::{self, DurationError};

/// Why a value is rejected.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// Not a duration.
    #[error("{field} {why}")]
    NotADuration {
        /// The setting.
        field: &'static str,
        /// The rule.
        why: DurationError,
    },
    /// Not a number.
    #[error("{field} {given:?} is not a number: use {least} to {most}")]
    NotANumber {
        /// The setting.
        field: &'static str,
        /// The rejected text.
        given: String,
        /// The smallest allowed value.
        least: String,
        /// The largest allowed value.
        most: String,
    },
    /// Below or above the limits.
    #[error("{field} {given} is out of range: use {least} to {most}")]
    OutOfRange {
        /// The setting.
        field: &'static str,
        /// The rejected text.
        given: String,
        /// The smallest allowed value.
        least: String,
        /// The largest allowed value.
        most: String,
    },
    /// Neither IP address nor localhost, or no port.
    #[error("listen {0:?} is not an address: use IP:PORT, such as 127.0.0.1:8080 or [::1]:8080")]
    NotAnAddress(String),
    /// Not an origin as browsers send it.
    #[error(
        "allowed_origins {0:?} is not an origin: use http://HOST or https://HOST, with :PORT if it \
         is not 80 or 443, and nothing after it"
    )]
    NotAnOrigin(String),
    /// Not the name of an environment variable.
    #[error(
        "pass_env {0:?} is not the name of a variable: use letters, digits and '_', \
         and at most a '*' at the end"
    )]
    NotAVariable(String),
    /// The log filter cannot parse it.
    #[error("log {0:?} is not a level: use error, warn, info, debug or trace, or kindler=debug")]
    NotAFilter(String),
    /// A log filter that is about other programs alone.
    #[error("log {0:?} logs nothing of Kindler: use info,{0}, or off if that is what you want")]
    NothingLogged(String),
    /// Not a label selector.
    #[error(transparent)]
    NotASelector(#[from] SelectorError),
    /// A selector of commas alone, which would select every cluster.
    #[error("selector {0:?} names no label: use KEY=VALUE, or leave it empty to select everything")]
    EmptySelector(String),
    /// A selector that is too long to be stored as a placement.
    #[error("selector is {0} characters long: use at most {MAX_SELECTOR}")]
    LongSelector(usize),
    /// An empty path.
    #[error("{0} is empty: use a path")]
    EmptyPath(&'static str),
}

/// The selector's text is stored in each row that it places, and shown on one line.
const MAX_SELECTOR: usize = 1000;

/// A limit in seconds.
pub(super) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A limit in minutes.
pub(super) const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

/// A limit in hours.
pub(super) const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

/// Parses a duration within limits.
pub fn duration_within(
    field: &'static str,
    limits: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, LimitError> + Clone {
    move |text| {
        let text = text.trim();
        let given = duration::parse(text).map_err(|why| LimitError::NotADuration { field, why })?;
        if limits.contains(&given) {
            return Ok(given);
        }
        Err(LimitError::OutOfRange {
            field,
            given: text.to_owned(),
            least: plain(*limits.start()),
            most: plain(*limits.end()),
        })
    }
}

/// A limit as text: `0s` instead of the `0ms` of [`duration::compact`].
fn plain(limit: Duration) -> String {
    if limit.is_zero() {
        "0s".to_owned()
    } else {
        duration::compact(limit)
    }
}

/// Parses a number within limits.
pub fn number_within<T>(
    field: &'static str,
    limits: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, LimitError> + Clone
where
    T: FromStr + PartialOrd + ToString + Clone,
{
    move |text| {
        let (least, most) = (limits.start().to_string(), limits.end().to_string());
        let given = text.chars().take(40).collect();
        match text.trim().parse::<T>() {
            Ok(number) if limits.contains(&number) => Ok(number),
            // A number of another type, such as -1 or 1.5, is out of range.
            _ if text.trim().parse::<f64>().is_ok() => Err(LimitError::OutOfRange {
                field,
                given,
                least,
                most,
            }),
            _ => Err(LimitError::NotANumber {
                field,
                given,
                least,
                most,
            }),
        }
    }
}

/// Parses an origin in the form in which browsers send it.
pub(super) fn origin(text: &str) -> Result<String, LimitError> {
    let text = text.trim();
    let rest = text.strip_prefix("http://");
    let host = rest.or_else(|| text.strip_prefix("https://"));
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c);
    match host {
        Some(host) if !host.is_empty() && host.chars().all(fits) => Ok(text.to_owned()),
        _ => Err(LimitError::NotAnOrigin(text.chars().take(80).collect())),
    }
}

/// Parses `IP:PORT` or `localhost:PORT`.
pub fn address(text: &str) -> Result<SocketAddr, LimitError> {
    let text = text.trim();
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric
        .parse()
        .map_err(|_| LimitError::NotAnAddress(text.chars().take(80).collect()))
}

/// Parses a label selector. Only an empty text selects every cluster.
pub(super) fn selector(text: &str) -> Result<Selector, LimitError> {
    let length = text.chars().count();
    if length > MAX_SELECTOR {
        return Err(LimitError::LongSelector(length));
    }
    let selector: Selector = text.parse()?;
    if selector.is_empty() && !text.trim().is_empty() {
        return Err(LimitError::EmptySelector(text.to_owned()));
    }
    Ok(selector)
}

/// Parses the name of an environment variable, or a prefix followed by `*`.
pub(super) fn variable(text: &str) -> Result<String, LimitError> {
    let name = text.trim();
    let stem = name.strip_suffix('*').unwrap_or(name);
    let named = stem.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && stem.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if named {
        Ok(name.to_owned())
    } else {
        Err(LimitError::NotAVariable(text.chars().take(80).collect()))
    }
}

/// Checks a log filter and returns its text.
///
/// The filter's own parser takes an unknown word for a module, which would switch every
/// other message off: a word without a level must be a level. So would a module that is not of
/// Kindler, without a level for the others.
pub(super) fn log_filter(text: &str) -> Result<String, LimitError> {
    let text = text.trim();
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let filter = EnvFilter::try_new(text);
    let words = || text.split(',').map(str::trim);
    let shown = || text.chars().take(80).collect();
    if filter.is_err() || !words().all(|word| is_level(word) || word.contains(['=', '['])) {
        return Err(LimitError::NotAFilter(shown()));
    }
    if !words().any(|word| is_level(word) || is_of_kindler(word)) {
        return Err(LimitError::NothingLogged(shown()));
    }
    Ok(text.to_owned())
}

/// Whether a directive such as `kindler::core=debug` or `[reconcile]=debug` is about messages of
/// Kindler. The target of a directive is a prefix.
fn is_of_kindler(directive: &str) -> bool {
    let target = directive.split(['=', '[']).next().unwrap_or_default();
    "kindler".starts_with(target) || target.starts_with("kindler::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_out_of_range_names_field_and_limits() {
        let parse = duration_within("resync_interval", seconds(1)..=hours(1));
        assert_eq!(parse("90s").unwrap(), seconds(90));
        let error = parse("2h").unwrap_err().to_string();
        assert_eq!(error, "resync_interval 2h is out of range: use 1s to 1h");
        let error = parse("30").unwrap_err().to_string();
        assert!(
            error.starts_with("resync_interval \"30\" is not a duration"),
            "{error}"
        );
    }

    #[test]
    fn a_number_out_of_range_names_field_and_limits() {
        let parse = number_within("concurrency", 1_usize..=256);
        assert_eq!(parse("3").unwrap(), 3);
        for bad in ["0", "-1", "257", "1.5"] {
            let error = parse(bad).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("concurrency {bad} is out of range: use 1 to 256")
            );
        }
        assert!(
            parse("many")
                .unwrap_err()
                .to_string()
                .contains("is not a number")
        );
        let rate = number_within("sandbox_failure_rate", 0.0_f64..=1.0);
        assert!(rate("NaN").is_err());
    }

    #[test]
    fn addresses_variables_and_filters_are_checked() {
        assert_eq!(address("localhost:0").unwrap().to_string(), "127.0.0.1:0");
        assert!(address("[::1]:8080").is_ok());
        assert!(
            address("8080")
                .unwrap_err()
                .to_string()
                .starts_with("listen \"8080\"")
        );
        assert_eq!(variable(" ACME_* ").unwrap(), "ACME_*");
        for bad in ["", "*", "A B", "A=B", "1A", "A**"] {
            assert!(
                variable(bad)
                    .unwrap_err()
                    .to_string()
                    .starts_with("pass_env "),
                "{bad}"
            );
        }
        assert!(log_filter("info,kindler=debug").is_ok());
        for bad in ["kindlr=debug", "kindlerx=debug", "hyper=info,rustls=debug"] {
            let message = log_filter(bad).unwrap_err().to_string();
            assert!(message.contains(&format!("use info,{bad}")), "{message}");
        }
        for good in [
            "off",
            "kindler=off",
            "kindler::core=debug",
            "[reconcile]=info",
        ] {
            assert!(log_filter(good).is_ok(), "{good}");
        }
        assert!(selector(" ").unwrap().is_empty());
        assert_eq!(selector("b,a=1").unwrap().to_string(), "a=1,b");
        for bad in [",", "a b", &"a".repeat(1001)] {
            let message = selector(bad).unwrap_err().to_string();
            assert!(message.starts_with("selector"), "{message}");
            assert!(
                message.contains(": use ") && message.len() < 200,
                "{message}"
            );
        }
        for bad in ["kindler=loud", "warning", "inof", "kindler", "info,x", ""] {
            let message = log_filter(bad).unwrap_err().to_string();
            assert!(message.starts_with("log "), "{message}");
        }
        for good in [
            "WARN",
            "off",
            " info,kindler::http=debug ",
            "warn,[pass]=info",
        ] {
            assert!(log_filter(good).is_ok(), "{good}");
        }
    }
}
