//! Identifies a process by more than its pid, and kills it. This module must not start processes,
//! and must not signal one whose identity it did not check.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::error::SandboxError;

/// How long a killed process may take to end.
const END_WITHIN: Duration = Duration::from_secs(5);
/// The time between two checks meanwhile.
const CHECK_EVERY: Duration = Duration::from_millis(5);

/// The identity of a process: pids are reused, and start times repeat after a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The pid.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks from boot to start.
    pub start_ticks: u64,
    /// The identity of that boot.
    pub boot_id: String,
}

impl ProcessIdentity {
    /// The identity of this process.
    pub(super) fn own() -> Option<Self> {
        let pid = i32::try_from(std::process::id()).ok()?;
        Some(Self {
            pid,
            start_ticks: stat(pid)?.start_ticks,
            boot_id: boot_id()?,
        })
    }

    /// Whether this process still runs. A zombie does not run.
    pub(super) fn runs(&self) -> bool {
        let same = |now: Stat| now.start_ticks == self.start_ticks && !now.ended;
        stat(self.pid).is_some_and(same) && boot_id().is_some_and(|boot| boot == self.boot_id)
    }

    /// Kills this process, if it still runs, and waits for its end.
    pub(super) async fn end(&self) -> Result<(), SandboxError> {
        let deadline = Instant::now() + END_WITHIN;
        self.kill();
        while self.runs() {
            if Instant::now() >= deadline {
                return Err(SandboxError::NotKilled { pid: self.pid });
            }
            sleep(CHECK_EVERY).await;
        }
        Ok(())
    }

    /// Opens a pidfd first and checks the identity then, so that a process that reuses the pid is
    /// not killed. Errors are ignored: the caller checks whether the process still runs.
    fn kill(&self) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        let opened = pidfd_open(pid, PidfdFlags::empty());
        if !self.runs() {
            return;
        }
        let _gone = match opened {
            Ok(pidfd) => pidfd_send_signal(&pidfd, Signal::KILL),
            // Some containers forbid pidfds.
            Err(_) => kill_process(pid, Signal::KILL),
        };
    }
}

struct Stat {
    start_ticks: u64,
    ended: bool,
}

fn stat(pid: i32) -> Option<Stat> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(&String::from_utf8_lossy(&stat))
}

/// The name in parentheses can be any text, so the fields count from the last parenthesis: field 3
/// is the state, 20 the number of threads, 22 the start.
///
/// A zombie with further threads is still ending: its files, locks and ports are not free yet.
fn parse(stat: &str) -> Option<Stat> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let zombie = matches!(fields.next()?, "Z" | "X");
    let threads: i64 = fields.nth(20 - 4)?.parse().ok()?;
    let start_ticks = fields.nth(22 - 21)?.parse().ok()?;
    let ended = zombie && threads <= 1;
    Some(Stat { start_ticks, ended })
}

fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_start_is_field_22_for_every_name() {
        let rest = "Z 41 40 39 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 777 2461696 0";
        let stat = parse(&format!("42 (a) R 1 (b) {rest}")).unwrap();
        assert_eq!(stat.start_ticks, 777);
        assert!(stat.ended);
        let still_ending = rest.replace("0 1 0 777", "0 2 0 777");
        assert!(!parse(&format!("42 (a) {still_ending}")).unwrap().ended);
        assert!(parse("42 (cut").is_none());
    }

    #[tokio::test]
    async fn only_a_process_with_this_identity_is_killed() {
        let mut sleeper = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(sleeper.id()).unwrap();
        let identity = ProcessIdentity {
            pid,
            start_ticks: stat(pid).unwrap().start_ticks,
            boot_id: boot_id().unwrap(),
        };
        let earlier = ProcessIdentity {
            start_ticks: identity.start_ticks - 1,
            ..identity.clone()
        };
        let before_the_reboot = ProcessIdentity {
            boot_id: "another".into(),
            ..identity.clone()
        };
        for other in [earlier, before_the_reboot] {
            assert!(!other.runs());
            other.end().await.unwrap();
            assert!(
                sleeper.try_wait().unwrap().is_none(),
                "another process was killed"
            );
        }
        assert!(identity.runs());
        // It is a zombie until it is reaped below.
        identity.end().await.unwrap();
        assert!(!identity.runs());
        sleeper.wait().unwrap();
    }
}
