//! The daemon's handle of one guard: starts it, exchanges messages with it, and kills its process
//! tree if it fails. This module does not decide why a command is stopped.

use std::env;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fd::OwnedFd;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::control_socket::{GuardReport, GuardRequest, MessageBuffer};
use super::environment::{self, RUN_ID};
use super::guard::NO_LOCK;
use super::kill_tree::{KILL_DEADLINE, kill_tree};
use super::line::CommandLine;
use super::run_id::RunId;
use crate::core::trust::MonotonicDeadline;

/// A running guard and its control socket. Dropping it closes the socket, and the guard ends the
/// process tree by itself.
pub(super) struct GuardProcess {
    child: Child,
    socket: UnixStream,
    buffer: MessageBuffer,
    /// `NAME=value`, as in the environment of every process of the run.
    run_id: String,
    /// The process group of the command, once the guard has reported it.
    group: Option<i32>,
}

impl GuardProcess {
    /// Starts `program` as the guard of `line`, which also inherits the variables `pass_env`. The
    /// guard holds `owner_lock`, and checks `trust` again before it starts the command.
    pub(super) fn start(
        (program, owner_lock): (&Path, Option<&Path>),
        pass_env: &[String],
        line: &CommandLine,
        grace: Duration,
        trust: MonotonicDeadline,
    ) -> io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let run_id = RunId::new().value();
        let inherited = environment::passed(env::vars_os(), pass_env);
        let extra = line
            .env
            .iter()
            .filter(|(name, _)| !environment::is_withheld(name));
        let child = Command::new(program)
            // The name in `ps`, where the default program would be called "exe".
            .arg0("kindler")
            .arg("guard")
            .arg(trust.as_nanos().to_string())
            .arg(grace.as_millis().to_string())
            .arg(owner_lock.unwrap_or(Path::new(NO_LOCK)))
            .arg(&line.program)
            .args(&line.args)
            .env_clear()
            .envs(inherited)
            .envs(extra.map(|(name, value)| (name, value)))
            .env(RUN_ID, &run_id)
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let socket = UnixStream::from_std(ours)?;
        let run_id = format!("{RUN_ID}={run_id}");
        Ok(Self {
            child,
            socket,
            buffer: MessageBuffer::default(),
            run_id,
            group: None,
        })
    }

    /// The pipes that the command writes to; `None` after the first call.
    pub(super) fn take_output(&mut self) -> Option<(ChildStdout, ChildStderr)> {
        self.child.stdout.take().zip(self.child.stderr.take())
    }

    /// Sends a request to the guard. A request is lost if the socket is full, which means that the
    /// guard has not read thousands of them; without renewals it ends the command.
    pub(super) fn send(&self, request: GuardRequest) {
        // Not `try_write`, which writes nothing until the runtime has seen the socket writable:
        // it would lose a request right after the start.
        let _ = rustix::io::write(&self.socket, request.to_string().as_bytes());
    }

    /// Waits for the next report; `None` once the guard has ended. Cancel-safe.
    pub(super) async fn report(&mut self) -> Option<GuardReport> {
        loop {
            if let Some(report) = self.buffer.next() {
                if let GuardReport::Started(pid) = report {
                    self.group = Some(pid);
                }
                return Some(report);
            }
            self.socket.readable().await.ok()?;
            let mut bytes = [0; 256];
            match self.socket.try_read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.buffer.push(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_gone) => return None,
            }
        }
    }

    /// Waits for the end of a guard that has closed its socket.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        match tokio::time::timeout(KILL_DEADLINE, self.child.wait()).await {
            Ok(status) => status,
            Err(_late) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Kills the process tree of a guard that is dead or does not respond, then the guard. Returns
    /// the processes that survived.
    pub(super) async fn kill(&mut self) -> Vec<i32> {
        let guard = self.child.id().and_then(|id| i32::try_from(id).ok());
        let (run_id, group) = (self.run_id.clone(), self.group);
        // Reads /proc for up to seconds, which would block a thread that renews leases.
        let killed = tokio::task::spawn_blocking(move || kill_tree(guard, group, &run_id));
        let survivors = killed.await.unwrap_or_default();
        // The guard last: without it, its descendants could no longer be identified.
        let _ = self.child.start_kill();
        let _ = self.ended().await;
        survivors
    }
}
