//! Tells one process from every other that had or will have its number, and ends it.
//! This module must not start processes, and must not signal one that it did not recognise.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::error::SandboxError;

/// How long a killed process may take to vanish.
const DYING: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The identity of a process. A pid alone is reused; a start time alone repeats after a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its number.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks from the boot to its start.
    pub start_ticks: u64,
    /// Which boot that was.
    pub boot_id: String,
}

impl ProcessIdentity {
    /// Of the process that asks.
    pub(super) fn own() -> Option<Self> {
        let pid = i32::try_from(std::process::id()).ok()?;
        Some(Self {
            pid,
            start_ticks: stat(pid)?.start_ticks,
            boot_id: boot_id()?,
        })
    }

    /// Whether just this process still runs. One that ended and waits for its parent does not.
    pub(super) fn runs(&self) -> bool {
        let same = |now: Stat| now.start_ticks == self.start_ticks && !now.ended;
        stat(self.pid).is_some_and(same) && boot_id().is_some_and(|boot| boot == self.boot_id)
    }

    /// Kills just this process, if it still runs, and waits until it does not.
    pub(super) async fn end(&self) -> Result<(), SandboxError> {
        let giving_up = Instant::now() + DYING;
        self.kill();
        while self.runs() {
            if Instant::now() >= giving_up {
                return Err(SandboxError::Undying { pid: self.pid });
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Pins the process first and recognises it then, so that a process which gets its number in
    /// between is not hit. A failure shows in that the process goes on.
    fn kill(&self) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        let pinned = pidfd_open(pid, PidfdFlags::empty());
        if !self.runs() {
            return;
        }
        let _gone = match pinned {
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

/// The name in brackets is the process's own choice, so everything counts from the last bracket:
/// there follow field 3, the state, field 20, the number of threads, and field 22, the start.
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
    fn the_start_is_field_22_whatever_the_name() {
        let rest = "Z 41 40 39 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 777 2461696 0";
        let stat = parse(&format!("42 (a) R 1 (b) {rest}")).unwrap();
        assert_eq!(stat.start_ticks, 777);
        assert!(stat.ended);
        let still_ending = rest.replace("0 1 0 777", "0 2 0 777");
        assert!(!parse(&format!("42 (a) {still_ending}")).unwrap().ended);
        assert!(parse("42 (cut").is_none());
    }

    #[tokio::test]
    async fn only_the_very_process_is_ended() {
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
        for stranger in [earlier, before_the_reboot] {
            assert!(!stranger.runs());
            stranger.end().await.unwrap();
            assert!(
                sleeper.try_wait().unwrap().is_none(),
                "a stranger was killed"
            );
        }
        assert!(identity.runs());
        // Before it is collected: a process that ended does not run.
        identity.end().await.unwrap();
        assert!(!identity.runs());
        sleeper.wait().unwrap();
    }
}
