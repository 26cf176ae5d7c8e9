//! The supervisor process of one command: `kindler guard`.
//!
//! It starts the command, adopts every orphan of its process tree, and ends the whole tree when the
//! daemon requests it, when the daemon dies, when trust expires, or when the command has ended. It
//! is synchronous and small: it starts in milliseconds, does not depend on the daemon's health, and
//! does not print (its stdout and stderr are the command's).
//!
//! It cannot miss a process: as a *child subreaper* it becomes the parent of every descendant whose
//! own parent dies. So "no children" means "the tree has ended", without a race between a read of
//! `/proc` and a fork.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, set_child_subreaper, wait,
};

use super::control_socket::{GuardReport, GuardRequest, MessageBuffer};
use super::files::FileThread;
use super::owner_lock;
use super::tree::{self, ProcessInfo};
use crate::core::trust::MonotonicDeadline;

/// How long the process tree may take to end after the daemon died.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);
/// How long the other processes may take to end after the command ended.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);
/// The longest sleep while the command runs. A sleep does not count the time in which the machine
/// is suspended, but trust does: shorter than the margin of the shortest lease. It also bounds how
/// long an adopted zombie stays.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// How often the guard checks whether a tree that it ends has ended. Costs one system call.
const REAP_INTERVAL: Duration = Duration::from_millis(10);
/// How often the guard reads the tree from `/proc` to end it. Costs one read per process.
const SCAN_INTERVAL: Duration = Duration::from_millis(50);

/// In place of the path of a lock, if there is none.
pub(super) const NO_LOCK: &str = "-";

/// Runs the guard with the arguments after `guard`: `TRUST_NANOS GRACE_MILLIS LOCK PROGRAM [ARG...]`.
/// The control socket is stdin. For the daemon, not for people.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(arguments) = GuardArguments::parse(args) else {
        let _ = writeln!(
            io::stderr(),
            "kindler guard is started by the daemon: TRUST_NANOS GRACE_MILLIS LOCK PROGRAM [ARG...]"
        );
        return ExitCode::from(2);
    };
    match guard(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // The daemon notices the missing report; the text is for the command's log.
        Err(error) => {
            let _ = writeln!(io::stderr(), "kindler guard: {error}");
            ExitCode::FAILURE
        }
    }
}

fn guard(arguments: GuardArguments) -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    ignore_signals()?;
    let mut control = ControlSocket::on_stdin(arguments.trust)?;
    let lock = arguments.lock.map(locked_in_time).transpose();
    // The daemon may have stopped the command or died before this point.
    let event = control.wait(None, Duration::ZERO);
    let report = if control.trust.passed() {
        GuardReport::Untrusted
    } else if let Err(error) = &lock {
        match error.kind() {
            io::ErrorKind::TimedOut => GuardReport::Unlocked,
            _ => GuardReport::Untrusted,
        }
    } else if event != ControlEvent::None {
        GuardReport::Stopped
    } else {
        match start(&arguments.program, &arguments.args) {
            Err(error) => GuardReport::Failed(error.raw_os_error().unwrap_or(0)),
            Ok(command) => {
                SupervisedCommand::new(command, &mut control, arguments.grace).until_tree_ended()
            }
        }
    };
    control.send(report);
    Ok(())
}

/// The lock of the owner. A state folder that does not answer ends the wait for it: nothing was
/// started then, and the thread that waits ends with the guard.
fn locked_in_time(path: PathBuf) -> io::Result<File> {
    FileThread::start("owner lock").run_blocking(move || owner_lock::join(&path))?
}

/// Ignores SIGTERM and similar signals. The guard has its own process group, so only a sender that
/// signals every process (such as systemd for a unit) reaches it. The daemon gets the signal too,
/// decides, and informs the guard over the control socket.
///
/// Uses handlers, not `SIG_IGN`: the command would inherit an ignored signal, but gets the default
/// for a handled one. `std` can set neither; `tokio` can, and its handlers outlive the runtime that
/// is dropped here.
fn ignore_signals() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _entered = runtime.enter();
    for kind in [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::alarm(),
    ] {
        drop(signal(kind)?);
    }
    Ok(())
}

/// Starts the command in its own process group, so that a script that signals its group (`kill 0`)
/// does not signal the guard. The command inherits everything else, which the daemon chose.
fn start(program: &OsString, args: &[OsString]) -> io::Result<Pid> {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()?;
    // The `Child` is dropped without a wait: `reap` waits for all child processes.
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("the command has no process id"))
}

struct GuardArguments {
    trust: MonotonicDeadline,
    grace: Duration,
    lock: Option<PathBuf>,
    program: OsString,
    args: Vec<OsString>,
}

impl GuardArguments {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Self> {
        let trust = MonotonicDeadline::from_nanos(args.next()?.to_str()?.parse().ok()?);
        let grace = Duration::from_millis(args.next()?.to_str()?.parse().ok()?);
        let lock = args.next().filter(|path| path != NO_LOCK);
        Some(Self {
            trust,
            grace,
            lock: lock.map(PathBuf::from),
            program: args.next()?,
            args: args.collect(),
        })
    }
}

/// What the control socket delivered, except for trust, which takes effect at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ControlEvent {
    None,
    Stop(Duration),
    DaemonGone,
}

/// The guard's end of the control socket.
struct ControlSocket {
    socket: File,
    buffer: MessageBuffer,
    trust: MonotonicDeadline,
    open: bool,
}

impl ControlSocket {
    fn on_stdin(trust: MonotonicDeadline) -> io::Result<Self> {
        let socket = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        Ok(Self {
            socket,
            buffer: MessageBuffer::default(),
            trust,
            open: true,
        })
    }

    /// Sleeps until a message arrives, the command ends, or the time is over.
    fn wait(&mut self, command: Option<&OwnedFd>, at_most: Duration) -> ControlEvent {
        let timeout = Timespec::try_from(at_most).ok();
        let mut watched = Vec::with_capacity(2);
        watched.extend(command.map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        // A closed socket is always readable, and the sleep would become a busy loop.
        if self.open {
            watched.push(PollFd::new(&self.socket, PollFlags::IN));
        }
        // An interrupted sleep is a short sleep; the caller checks everything anyway.
        let _ = poll(&mut watched, timeout.as_ref());
        let ready = self.open && watched.last().is_some_and(|fd| !fd.revents().is_empty());
        if ready {
            self.receive()
        } else {
            ControlEvent::None
        }
    }

    fn receive(&mut self) -> ControlEvent {
        let mut bytes = [0; 1024];
        match self.socket.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return ControlEvent::None;
            }
            Ok(read) if read > 0 => self.buffer.push(&bytes[..read]),
            _closed => {
                self.open = false;
                return ControlEvent::DaemonGone;
            }
        }
        let mut event = ControlEvent::None;
        while let Some(request) = self.buffer.next() {
            match request {
                GuardRequest::Trust(until) => self.trust = until,
                GuardRequest::Stop(grace) => event = ControlEvent::Stop(grace),
            }
        }
        event
    }

    /// Ignores errors: a daemon that is gone needs no report.
    fn send(&mut self, report: GuardReport) {
        let _ = self.socket.write_all(report.to_string().as_bytes());
    }
}

/// The running command and its process tree.
struct SupervisedCommand<'a> {
    control: &'a mut ControlSocket,
    command: Pid,
    /// Wakes the guard when the command ends. Without it (a sandbox may forbid it) the guard polls,
    /// because the command already runs.
    pidfd: Option<OwnedFd>,
    grace: Duration,
    termination: Option<Termination>,
}

/// The termination of the process tree.
struct Termination {
    /// The report once the tree has ended.
    report: GuardReport,
    kill_at: MonotonicDeadline,
    next_scan: MonotonicDeadline,
    /// The processes that got SIGTERM, by PID and start; `None` before the first scan.
    signalled: Option<HashSet<(i32, u64)>>,
}

impl<'a> SupervisedCommand<'a> {
    fn new(command: Pid, control: &'a mut ControlSocket, grace: Duration) -> Self {
        let pidfd = pidfd_open(command, PidfdFlags::empty()).ok();
        control.send(GuardReport::Started(command.as_raw_pid()));
        Self {
            control,
            command,
            pidfd,
            grace,
            termination: None,
        }
    }

    fn until_tree_ended(mut self) -> GuardReport {
        loop {
            let event = match &self.termination {
                None => {
                    let longest = self.pidfd.as_ref().map_or(REAP_INTERVAL, |_| LONGEST_SLEEP);
                    let sleep = self.control.trust.remaining().min(longest);
                    self.control.wait(self.pidfd.as_ref(), sleep)
                }
                Some(_) => self.control.wait(None, REAP_INTERVAL),
            };
            // Before `handle`: a command that ended before the request ended by itself.
            let tree_ended = self.reap();
            self.handle(event);
            match &mut self.termination {
                Some(termination) if tree_ended => return termination.report,
                Some(termination) => termination.signal_tree(self.command, self.control.trust),
                None => {}
            }
        }
    }

    fn handle(&mut self, event: ControlEvent) {
        match event {
            ControlEvent::Stop(grace) => self.terminate(GuardReport::Stopped, grace),
            ControlEvent::DaemonGone => {
                self.terminate(GuardReport::Stopped, self.grace.min(ORPHAN_GRACE));
            }
            ControlEvent::None => {}
        }
        if self.termination.is_none() && self.control.trust.passed() {
            self.terminate(GuardReport::Untrusted, Duration::ZERO);
        }
    }

    /// Starts the termination. If it has started, keeps its report and takes the shorter grace.
    fn terminate(&mut self, report: GuardReport, grace: Duration) {
        let kill_at = MonotonicDeadline::in_(grace);
        match &mut self.termination {
            Some(termination) => termination.kill_at = termination.kill_at.min(kill_at),
            None => {
                let next_scan = MonotonicDeadline::in_(Duration::ZERO);
                self.termination = Some(Termination {
                    report,
                    kill_at,
                    next_scan,
                    signalled: None,
                });
            }
        }
    }

    /// Waits for ended processes and records the end of the command. Returns whether no process is
    /// left.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.command => {
                    let report = match status.terminating_signal() {
                        Some(signal) => GuardReport::Signaled(signal),
                        None => GuardReport::Exited(status.exit_status().unwrap_or(0)),
                    };
                    // The other processes have no reason to run without the command.
                    if self.termination.is_none() {
                        self.terminate(report, self.grace.min(LEFTOVER_GRACE));
                    }
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return false,
                Err(_no_children) => return true,
            }
        }
    }
}

impl Termination {
    /// Scans the tree and signals its processes. The guard never gives up: while a process is left,
    /// the command counts as running.
    fn signal_tree(&mut self, command: Pid, trust: MonotonicDeadline) {
        if !self.next_scan.passed() {
            return;
        }
        let guard = getpid().as_raw_pid();
        let tree = tree::descendants_of(guard);
        if self.kill_at.passed() || trust.passed() {
            let group = command.as_raw_pid();
            if tree.iter().any(|process| process.group == group) {
                tree::kill_group(group);
            }
            for process in tree {
                process.signal(Signal::KILL);
            }
            self.next_scan = MonotonicDeadline::in_(REAP_INTERVAL);
        } else {
            self.request_end(guard, &tree);
            self.next_scan = MonotonicDeadline::in_(SCAN_INTERVAL);
        }
    }

    /// Sends SIGTERM once to each process of the first scan, and later to each new orphan. Other new
    /// processes belong to the cleanup of their parents and may finish.
    fn request_end(&mut self, guard: i32, tree: &[ProcessInfo]) {
        let first_scan = self.signalled.is_none();
        let signalled = self.signalled.get_or_insert_default();
        for process in tree {
            let selected = first_scan || process.parent == guard;
            if selected && signalled.insert((process.pid, process.start)) {
                process.signal(Signal::TERM);
                // A stopped process handles no SIGTERM.
                process.signal(Signal::CONT);
            }
        }
    }
}
