//! Words for people: relative times, and texts of others made fit to print.

use std::time::Duration;

use jiff::Timestamp;

use crate::clusters::{Actual, Cluster};
use crate::command::clean_line;
use crate::duration::compact;

/// A duration in whole seconds, as compact as `45s`, `3m20s` or `2d4h`.
pub(super) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "0s".to_owned(),
        seconds => compact(Duration::from_secs(seconds)),
    }
}

/// How long ago that was; a clock that is ahead of ours counts as now.
pub(super) fn since(then: Timestamp, now: Timestamp) -> String {
    span(Duration::try_from(now.duration_since(then)).unwrap_or_default())
}

/// When that will be: `in 12s`, or `now` if it is due.
pub(super) fn until(then: Timestamp, now: Timestamp) -> String {
    match Duration::try_from(then.duration_since(now)) {
        Ok(left) if left > Duration::ZERO => {
            format!("in {}", span(left.max(Duration::from_secs(1))))
        }
        _ => "now".to_owned(),
    }
}

/// One line of somebody else's text: no control characters, bounded.
pub(super) fn line(text: &str) -> String {
    text.lines()
        .map(|l| clean_line(l.as_bytes()))
        .find(|l| !l.trim().is_empty())
        .unwrap_or_default()
}

/// All lines of somebody else's text.
pub(super) fn lines(text: &str) -> Vec<String> {
    text.lines().map(|l| clean_line(l.as_bytes())).collect()
}

/// Why a cluster is in its state, in one line.
pub(super) fn why(cluster: &Cluster) -> String {
    let told = [
        &cluster.status_message,
        &cluster.reconcile_error,
        &cluster.status_reason,
    ]
    .into_iter()
    .flatten()
    .map(|text| line(text))
    .find(|text| !text.is_empty());
    let mark = match (
        cluster.protected || cluster.name.is_management(),
        cluster.paused,
    ) {
        (true, _) => Some("protected".to_owned()),
        (false, true) => Some("paused".to_owned()),
        (false, false) => None,
    };
    mark.into_iter().chain(told).collect::<Vec<_>>().join("; ")
}

/// When the next attempt is due, if one is awaited.
pub(super) fn next_try(cluster: &Cluster, now: Timestamp) -> Option<String> {
    let awaited = cluster.failed_attempts > 0 || cluster.actual == Actual::Failed;
    match cluster.next_attempt_at {
        _ if !awaited || cluster.observe_only() => None,
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
    fn texts_of_others_cannot_steer_the_terminal() {
        assert_eq!(line("\n\x1b[2Jbad\x07\nmore"), "bad");
        assert_eq!(lines("one\n\x1b[31mtwo"), ["one", "two"]);
    }
}
