//! Parses and formats durations: `30s`, `5m`, `1h30m`, `250ms`.
//!
//! A number without a unit is rejected.

use std::time::Duration;

use jiff::SignedDuration;

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a duration: write a number with its unit, such as 30s, 5m or 1h30m")]
pub struct DurationError {
    given: String,
}

/// Parses `30s`, `5m`, `1h30m`, `250ms`.
///
/// # Errors
/// [`DurationError`] for a number without a unit, a sign, or an unknown unit.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let rejected = || DurationError {
        given: text.chars().take(40).collect(),
    };
    let friendly = text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains("ago");
    if !friendly {
        return Err(rejected());
    }
    let signed: SignedDuration = text.parse().map_err(|_| rejected())?;
    Duration::try_from(signed).map_err(|_| rejected())
}

/// Formats a duration in at most two units: `45s`, `5m`, `1h30m`, `2d4h`; fractions of
/// seconds below ten seconds: `1.2s`.
pub fn compact(duration: Duration) -> String {
    let millis = duration.as_millis();
    let seconds = duration.as_secs();
    let pair = |big: u64, unit: &str, small: u64, sub: &str| match small {
        0 => format!("{big}{unit}"),
        n => format!("{big}{unit}{n}{sub}"),
    };
    match seconds {
        0 => format!("{millis}ms"),
        1..10 if !millis.is_multiple_of(1000) => format!("{:.1}s", duration.as_secs_f64()),
        1..60 => format!("{seconds}s"),
        60..3600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// Formats a time that is only estimated: `40 s`, `15 min`, `3 h`.
pub fn about(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().ceil();
    match seconds {
        ..90.0 => format!("{seconds} s"),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_requires_a_unit() {
        for (text, millis) in [
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
        ] {
            assert_eq!(
                parse(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
        for bad in [
            "30",
            "",
            "-5s",
            "5 parsecs",
            "s",
            "PT5M",
            "5m ago",
            "99999999999999999999s",
        ] {
            assert!(parse(bad).unwrap_err().to_string().contains("30s"), "{bad}");
        }
    }

    #[test]
    fn compact_uses_at_most_two_units() {
        for (millis, text) in [
            (0, "0ms"),
            (40, "40ms"),
            (1_200, "1.2s"),
            (3_000, "3s"),
            (59_999, "59s"),
            (300_000, "5m"),
            (5_430_000, "1h30m"),
            (187_200_000, "2d4h"),
        ] {
            assert_eq!(compact(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn an_estimate_has_one_unit() {
        for (seconds, text) in [
            (0.2, "1 s"),
            (89.0, "89 s"),
            (899.0, "15 min"),
            (10_000.0, "3 h"),
        ] {
            assert_eq!(about(Duration::from_secs_f64(seconds)), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn whole_seconds_below_an_hour_are_parsed_back(seconds in 1u64..3600) {
            let duration = Duration::from_secs(seconds);
            proptest::prop_assert_eq!(parse(&compact(duration)).unwrap(), duration);
        }
    }
}
