//! The daemon's side of one guard: starting it, talking to it, and finishing it off when it
//! cannot do its work. This module must not decide why a command is stopped.

use std::env;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fd::OwnedFd;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::environment::{self, RUN_MARK};
use super::hunt::{HUNT, hunt_down};
use super::lifeline::{Inbox, Order, Report};
use super::line::CommandLine;
use super::mark::Run;
use crate::core::trust::MonotonicDeadline;

/// A running guard with the lifeline to it. Dropping it closes the lifeline, and the guard ends
/// the tree by itself.
pub(super) struct GuardProcess {
    child: Child,
    lifeline: UnixStream,
    inbox: Inbox,
    /// `NAME=value` as it stands in the environment of everything below.
    mark: String,
    /// The process group of the command, once the guard has told.
    group: Option<i32>,
}

impl GuardProcess {
    /// Starts `program` as the guard of `line`, which inherits `pass_env` too. It
    /// looks at `trust` again before it starts the command.
    pub(super) fn start(
        program: &Path,
        pass_env: &[String],
        line: &CommandLine,
        grace: Duration,
        trust: MonotonicDeadline,
    ) -> io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let mark = Run::begin().value();
        let inherited = environment::passed(env::vars_os(), pass_env);
        let extra = line
            .env
            .iter()
            .filter(|(name, _)| !environment::is_withheld(name));
        let child = Command::new(program)
            // Shown by ps, where the default program would be called "exe".
            .arg0("kindler")
            .arg("guard")
            .arg(trust.as_nanos().to_string())
            .arg(grace.as_millis().to_string())
            .arg(&line.program)
            .args(&line.args)
            .env_clear()
            .envs(inherited)
            .envs(extra.map(|(name, value)| (name, value)))
            .env(RUN_MARK, &mark)
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let lifeline = UnixStream::from_std(ours)?;
        let mark = format!("{RUN_MARK}={mark}");
        Ok(Self {
            child,
            lifeline,
            inbox: Inbox::default(),
            mark,
            group: None,
        })
    }

    /// The pipes that the command writes to; there the first time only.
    pub(super) fn take_output(&mut self) -> Option<(ChildStdout, ChildStderr)> {
        self.child.stdout.take().zip(self.child.stderr.take())
    }

    /// Tells the guard something. An order that does not fit into the socket meets a guard that
    /// has not read for thousands of them; losing it errs on the side of the command's end.
    pub(super) fn tell(&self, order: Order) {
        // Not `try_write`, which writes nothing until the runtime has seen the socket writable:
        // an order right after the start would be lost.
        let _deaf_or_gone = rustix::io::write(&self.lifeline, order.to_string().as_bytes());
    }

    /// The next report, `None` once the guard is gone. Cancel safe.
    pub(super) async fn report(&mut self) -> Option<Report> {
        loop {
            if let Some(report) = self.inbox.next() {
                if let Report::Started(pid) = report {
                    self.group = Some(pid);
                }
                return Some(report);
            }
            self.lifeline.readable().await.ok()?;
            let mut bytes = [0; 256];
            match self.lifeline.try_read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.inbox.push(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_gone) => return None,
            }
        }
    }

    /// Waits for the end of a guard whose lifeline has closed.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        match tokio::time::timeout(HUNT, self.child.wait()).await {
            Ok(status) => status,
            Err(_late) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Ends by force what a guard that is dead or deaf left behind, and gives back the processes
    /// that could not be ended.
    pub(super) async fn hunt(&mut self) -> Vec<i32> {
        let guard = self.child.id().and_then(|id| i32::try_from(id).ok());
        let (mark, group) = (self.mark.clone(), self.group);
        // Reads /proc for up to seconds: not for a thread that renews leases.
        let hunt = tokio::task::spawn_blocking(move || hunt_down(guard, group, &mark));
        let survivors = hunt.await.unwrap_or_default();
        // The tree first: without its guard it could no longer be told from others.
        let _gone = self.child.start_kill();
        let _late = self.ended().await;
        survivors
    }
}
