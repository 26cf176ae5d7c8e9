//! Texts for the user: relative times, and untrusted texts made safe to print.

use std::time::Duration;

use jiff::Timestamp;

use crate::clusters::{Actual, Cluster};
use crate::command::clean_line;
use crate::core::refusals::RefusedWrite;
use crate::duration::compact;
use crate::store::FleetView;

/// A duration in whole seconds, in a short form such as `45s`, `3m20s` or `2d4h`.
pub(super) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "0s".to_owned(),
        seconds => compact(Duration::from_secs(seconds)),
    }
}

/// The time since `then`; zero if that is in the future, as with a clock that is
/// ahead.
pub(super) fn since(then: Timestamp, now: Timestamp) -> String {
    span(Duration::try_from(now.duration_since(then)).unwrap_or_default())
}

/// The time until `then`: `in 12s`, or `now` if it is due.
pub(super) fn until(then: Timestamp, now: Timestamp) -> String {
    match Duration::try_from(then.duration_since(now)) {
        Ok(left) if left > Duration::ZERO => {
            format!("in {}", span(left.max(Duration::from_secs(1))))
        }
        _ => "now".to_owned(),
    }
}

/// The first line of an untrusted text: no control characters, limited length.
pub(super) fn line(text: &str) -> String {
    text.lines()
        .map(|l| clean_line(l.as_bytes()))
        .find(|l| !l.trim().is_empty())
        .unwrap_or_default()
}

/// All lines of an untrusted text.
pub(super) fn lines(text: &str) -> Vec<String> {
    text.lines().map(|l| clean_line(l.as_bytes())).collect()
}

/// The reason for the state of a cluster, in one line: what it waits for, or what its row says.
pub(super) fn why(cluster: &Cluster, fleet: Option<&FleetView>) -> String {
    let waiting = fleet.and_then(|fleet| fleet.waiting(cluster));
    let waiting = waiting.map(|waiting| line(&waiting.of(cluster)));
    let reason = [
        &cluster.status_message,
        &cluster.reconcile_error,
        &cluster.status_reason,
    ]
    .into_iter()
    .flatten()
    .map(|text| line(text))
    .find(|text| !text.is_empty());
    let reason = waiting.or(reason);
    let mark = match (
        cluster.protected || cluster.name.is_management(),
        cluster.paused,
    ) {
        (true, _) => Some("protected".to_owned()),
        (false, true) => Some("paused".to_owned()),
        (false, false) => None,
    };
    mark.into_iter()
        .chain(reason)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Why the database refuses the writes of a row that cannot show it.
pub(super) fn refused(refused: &RefusedWrite, now: Timestamp) -> String {
    let attempts = match refused.attempts {
        1 => "1 attempt".to_owned(),
        n => format!("{n} attempts"),
    };
    format!(
        "{} ({attempts} in {}, next {})",
        line(&refused.why),
        since(refused.since, now),
        until(refused.next_attempt_at, now)
    )
}

/// The time until the next attempt, if one is scheduled.
pub(super) fn next_attempt(cluster: &Cluster, now: Timestamp) -> Option<String> {
    let scheduled = cluster.failed_attempts > 0 || cluster.actual == Actual::Failed;
    match cluster.next_attempt_at {
        _ if !scheduled || cluster.observe_only() => None,
        Some(then) => Some(until(then, now)),
        None => Some("now".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_relative_and_never_negative() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        assert_eq!(since(at(-200), now), "3m20s");
        assert_eq!(since(at(5), now), "0s");
        assert_eq!(until(at(12), now), "in 12s");
        assert_eq!(until(at(-1), now), "now");
        assert_eq!(
            since(Timestamp::MIN, Timestamp::MAX).chars().last(),
            Some('h')
        );
    }

    #[test]
    fn untrusted_texts_cannot_control_the_terminal() {
        assert_eq!(line("\n\x1b[2Jbad\x07\nmore"), "bad");
        assert_eq!(lines("one\n\x1b[31mtwo"), ["one", "two"]);
    }
}
