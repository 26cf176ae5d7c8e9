//! The messages on the control socket between the daemon and a guard.
//!
//! Lines of ASCII text. The daemon sends requests, the guard sends reports. Both are the same
//! binary, so there is no version to negotiate. This module does not use processes or sockets.
//!
//! | daemon to guard | meaning |
//! |---|---|
//! | `trust NANOS` | the right to run now expires at this instant of `CLOCK_BOOTTIME` |
//! | `stop MILLIS` | SIGTERM to the whole process tree, SIGKILL after this many milliseconds |
//! | end of stream | the daemon died: stop, with a short grace |
//!
//! | guard to daemon | meaning |
//! |---|---|
//! | `started PID` | the command runs and leads a process group of this number |
//! | `failed ERRNO` | the command could not be started |
//! | `unlocked` | it was not started: the state folder with the lock of the owner did not answer |
//! | `exited CODE`, `signaled NUMBER` | it ended by itself; its process tree has ended |
//! | `stopped` | it was stopped on request; its process tree has ended |
//! | `untrusted` | trust expired, before the start or later; its process tree has ended |

use std::fmt;
use std::time::Duration;

use crate::core::trust::MonotonicDeadline;

/// A message from the daemon to a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GuardRequest {
    /// The right to run expires then.
    Trust(MonotonicDeadline),
    /// End the process tree, with this time between SIGTERM and SIGKILL.
    Stop(Duration),
}

/// A message from a guard to the daemon. All but `Started` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GuardReport {
    /// The command runs; its process id is also its process group.
    Started(i32),
    /// The command could not be started, for the reason in this errno.
    Failed(i32),
    /// The command ended by itself with this exit code.
    Exited(i32),
    /// The command was killed by this signal, which the guard did not send.
    Signaled(i32),
    /// The command was stopped on request.
    Stopped,
    /// Trust expired.
    Untrusted,
    /// The state folder with the lock of the owner did not answer.
    Unlocked,
}

impl fmt::Display for GuardRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trust(until) => writeln!(f, "trust {}", until.as_nanos()),
            Self::Stop(grace) => writeln!(f, "stop {}", grace.as_millis()),
        }
    }
}

impl fmt::Display for GuardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(pid) => writeln!(f, "started {pid}"),
            Self::Failed(errno) => writeln!(f, "failed {errno}"),
            Self::Exited(code) => writeln!(f, "exited {code}"),
            Self::Signaled(signal) => writeln!(f, "signaled {signal}"),
            Self::Stopped => writeln!(f, "stopped"),
            Self::Untrusted => writeln!(f, "untrusted"),
            Self::Unlocked => writeln!(f, "unlocked"),
        }
    }
}

/// A message of one line.
pub(super) trait ControlMessage: Sized {
    /// Parses a line without its end; `None` if it is unknown.
    fn parse(line: &str) -> Option<Self>;
}

impl ControlMessage for GuardRequest {
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

impl ControlMessage for GuardReport {
    fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            None if line == "stopped" => Some(Self::Stopped),
            None if line == "untrusted" => Some(Self::Untrusted),
            None if line == "unlocked" => Some(Self::Unlocked),
            Some(("started", pid)) => Some(Self::Started(pid.parse().ok()?)),
            Some(("failed", errno)) => Some(Self::Failed(errno.parse().ok()?)),
            Some(("exited", code)) => Some(Self::Exited(code.parse().ok()?)),
            Some(("signaled", signal)) => Some(Self::Signaled(signal.parse().ok()?)),
            _ => None,
        }
    }
}

/// Splits the bytes that were read into messages.
#[derive(Debug, Default)]
pub(super) struct MessageBuffer {
    bytes: Vec<u8>,
}

impl MessageBuffer {
    /// Longer than any message. Longer input is invalid and is dropped, so the buffer stays small.
    const LONGEST_LINE: usize = 64;

    /// Adds what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message. Skips invalid lines.
    pub(super) fn next<M: ControlMessage>(&mut self) -> Option<M> {
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

    use super::{GuardReport, GuardRequest, MessageBuffer};
    use crate::core::trust::MonotonicDeadline;

    fn any_request() -> impl Strategy<Value = GuardRequest> {
        prop_oneof![
            any::<u64>().prop_map(|n| GuardRequest::Trust(MonotonicDeadline::from_nanos(n))),
            any::<u32>().prop_map(|ms| GuardRequest::Stop(Duration::from_millis(ms.into()))),
        ]
    }

    fn any_report() -> impl Strategy<Value = GuardReport> {
        prop_oneof![
            any::<i32>().prop_map(GuardReport::Started),
            any::<i32>().prop_map(GuardReport::Failed),
            any::<i32>().prop_map(GuardReport::Exited),
            any::<i32>().prop_map(GuardReport::Signaled),
            Just(GuardReport::Stopped),
            Just(GuardReport::Untrusted),
            Just(GuardReport::Unlocked),
        ]
    }

    proptest! {
        #[test]
        fn requests_arrive_as_they_were_sent(noise: Vec<u8>, request in any_request()) {
            let mut buffer = MessageBuffer::default();
            // Noise before a line end does not affect the request after it.
            buffer.push(&noise);
            buffer.push(b"\n");
            while buffer.next::<GuardRequest>().is_some() {}
            for byte in request.to_string().as_bytes() {
                prop_assert_eq!(buffer.next::<GuardRequest>(), None);
                buffer.push(&[*byte]);
            }
            prop_assert_eq!(buffer.next::<GuardRequest>(), Some(request));
        }

        #[test]
        fn reports_arrive_as_they_were_sent(reports in proptest::collection::vec(any_report(), 0..5)) {
            let mut buffer = MessageBuffer::default();
            for report in &reports {
                buffer.push(report.to_string().as_bytes());
            }
            let received: Vec<GuardReport> = std::iter::from_fn(|| buffer.next()).collect();
            prop_assert_eq!(received, reports);
        }
    }

    #[test]
    fn input_without_a_line_end_does_not_grow() {
        let mut buffer = MessageBuffer::default();
        for _ in 0..1000 {
            buffer.push(&[b'x'; 64]);
            assert_eq!(buffer.next::<GuardRequest>(), None);
        }
        assert!(buffer.bytes.len() <= 128);
    }
}
