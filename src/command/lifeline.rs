//! The words on the socket between the daemon and a guard.
//!
//! Lines of ASCII text. The daemon sends orders, the guard sends reports; that the line closes is
//! the last order of all. Both ends are the same binary, so there is no version to negotiate.
//! This module must not touch a process or a socket.
//!
//! | daemon to guard | meaning |
//! |---|---|
//! | `trust NANOS` | the right to run now ends at this instant of `CLOCK_BOOTTIME` |
//! | `stop MILLIS` | SIGTERM to the whole tree, SIGKILL after so many milliseconds |
//! | end of stream | the owner is gone: stop, with little patience |
//!
//! | guard to daemon | meaning |
//! |---|---|
//! | `started PID` | the command runs, and leads a process group of this number |
//! | `failed ERRNO` | the command could not be started |
//! | `exited CODE`, `signaled NUMBER` | it ended by itself, and nothing of its tree is left |
//! | `stopped` | it was told to stop, and nothing of its tree is left |
//! | `untrusted` | trust ran out, before the start or since; nothing of its tree is left |

use std::fmt;
use std::time::Duration;

use crate::core::trust::MonotonicDeadline;

/// What the daemon tells a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The right to run ends then.
    Trust(MonotonicDeadline),
    /// End the tree, with this much time between SIGTERM and SIGKILL.
    Stop(Duration),
}

/// What a guard tells the daemon. All but `Started` are the guard's last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// The command runs; its process id is also its process group.
    Started(i32),
    /// The command could not be started, for the reason in this errno.
    Failed(i32),
    /// The command ended by itself with this exit code.
    Exited(i32),
    /// The command was ended by this signal, which the guard did not send.
    Signaled(i32),
    /// The command was told to stop.
    Stopped,
    /// Trust ran out.
    Untrusted,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trust(until) => writeln!(f, "trust {}", until.as_nanos()),
            Self::Stop(grace) => writeln!(f, "stop {}", grace.as_millis()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(pid) => writeln!(f, "started {pid}"),
            Self::Failed(errno) => writeln!(f, "failed {errno}"),
            Self::Exited(code) => writeln!(f, "exited {code}"),
            Self::Signaled(signal) => writeln!(f, "signaled {signal}"),
            Self::Stopped => writeln!(f, "stopped"),
            Self::Untrusted => writeln!(f, "untrusted"),
        }
    }
}

/// A message that one line of the socket carries.
pub(super) trait Message: Sized {
    /// Reads one line without its end; `None` for anything unknown.
    fn parse(line: &str) -> Option<Self>;
}

impl Message for Order {
    fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ')? {
            ("trust", nanos) => Some(Self::Trust(MonotonicDeadline::from_nanos(
                nanos.parse().ok()?,
            ))),
            ("stop", millis) => Some(Self::Stop(Duration::from_millis(millis.parse().ok()?))),
            _ => None,
        }
    }
}

impl Message for Report {
    fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            None if line == "stopped" => Some(Self::Stopped),
            None if line == "untrusted" => Some(Self::Untrusted),
            Some(("started", pid)) => Some(Self::Started(pid.parse().ok()?)),
            Some(("failed", errno)) => Some(Self::Failed(errno.parse().ok()?)),
            Some(("exited", code)) => Some(Self::Exited(code.parse().ok()?)),
            Some(("signaled", signal)) => Some(Self::Signaled(signal.parse().ok()?)),
            _ => None,
        }
    }
}

/// Collects bytes as they arrive and gives back whole messages.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// No message is longer; what is, is noise and is dropped so that it cannot grow.
    const LONGEST_LINE: usize = 64;

    /// Adds what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message; lines that mean nothing are skipped.
    pub(super) fn next<M: Message>(&mut self) -> Option<M> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            if let Some(message) = str::from_utf8(&line[..end]).ok().and_then(M::parse) {
                return Some(message);
            }
        }
        if self.bytes.len() > Self::LONGEST_LINE {
            self.bytes.clear();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, prop_oneof};
    use proptest::strategy::{Just, Strategy};
    use proptest::{prop_assert_eq, proptest};

    use super::{Inbox, Order, Report};
    use crate::core::trust::MonotonicDeadline;

    fn any_order() -> impl Strategy<Value = Order> {
        prop_oneof![
            any::<u64>().prop_map(|n| Order::Trust(MonotonicDeadline::from_nanos(n))),
            any::<u32>().prop_map(|ms| Order::Stop(Duration::from_millis(ms.into()))),
        ]
    }

    fn any_report() -> impl Strategy<Value = Report> {
        prop_oneof![
            any::<i32>().prop_map(Report::Started),
            any::<i32>().prop_map(Report::Failed),
            any::<i32>().prop_map(Report::Exited),
            any::<i32>().prop_map(Report::Signaled),
            Just(Report::Stopped),
            Just(Report::Untrusted),
        ]
    }

    proptest! {
        #[test]
        fn orders_arrive_as_they_were_sent(orders: Vec<u8>, order in any_order()) {
            let mut inbox = Inbox::default();
            // Noise before a line end must not swallow the order behind it.
            inbox.push(&orders);
            inbox.push(b"\n");
            while inbox.next::<Order>().is_some() {}
            for byte in order.to_string().as_bytes() {
                prop_assert_eq!(inbox.next::<Order>(), None);
                inbox.push(&[*byte]);
            }
            prop_assert_eq!(inbox.next::<Order>(), Some(order));
        }

        #[test]
        fn reports_arrive_as_they_were_sent(reports in proptest::collection::vec(any_report(), 0..5)) {
            let mut inbox = Inbox::default();
            for report in &reports {
                inbox.push(report.to_string().as_bytes());
            }
            let heard: Vec<Report> = std::iter::from_fn(|| inbox.next()).collect();
            prop_assert_eq!(heard, reports);
        }
    }

    #[test]
    fn noise_without_an_end_does_not_grow() {
        let mut inbox = Inbox::default();
        for _ in 0..1000 {
            inbox.push(&[b'x'; 64]);
            assert_eq!(inbox.next::<Order>(), None);
        }
        assert!(inbox.bytes.len() <= 128);
    }
}
