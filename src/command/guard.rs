//! The process that stands between the daemon and a command: `kindler guard`.
//!
//! It starts one command, adopts every orphan below it, and ends the whole tree when it is told
//! to, when the daemon is gone, when trust runs out, or when the command itself has ended. It is
//! synchronous and small on purpose: it must start in milliseconds, must not depend on the
//! daemon's health, and must not print (its stdout and stderr are the command's).
//!
//! Nothing below it can be overlooked: as a *child subreaper* it becomes the parent of every
//! descendant whose own parent dies, so that "I have no children" is the kernel's word for "the
//! tree is gone", with no race between a look at `/proc` and a fork.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, set_child_subreaper, wait,
};

use super::lifeline::{Inbox, Order, Report};
use super::tree;
use crate::core::trust::MonotonicDeadline;

/// How long the tree of an owner that died may take to leave.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);
/// How long processes that the command left behind may take to leave.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);
/// The longest sleep while the command runs: the sleep stands still while the machine is
/// suspended, trust does not. It also bounds the life of an adopted zombie.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How often an ending tree is asked whether it is gone. Costs one system call.
const LEAVING_TICK: Duration = Duration::from_millis(10);
/// How often an ending tree is looked up in `/proc`, which costs one read per process.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the guard with the arguments after `guard`: `TRUST_NANOS GRACE_MILLIS PROGRAM [ARG...]`,
/// the lifeline on stdin. Written for the daemon, not for people.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(errand) = Errand::parse(args) else {
        let _nobody_listens = writeln!(
            io::stderr(),
            "kindler guard is started by the daemon: TRUST_NANOS GRACE_MILLIS PROGRAM [ARG...]"
        );
        return ExitCode::from(2);
    };
    match guard(errand) {
        Ok(()) => ExitCode::SUCCESS,
        // The daemon reads the missing report; the text is for the command's log.
        Err(error) => {
            let _nobody_listens = writeln!(io::stderr(), "kindler guard: {error}");
            ExitCode::FAILURE
        }
    }
}

fn guard(errand: Errand) -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    ignore_stray_signals()?;
    let mut lifeline = Lifeline::on_stdin(errand.trust)?;
    // Whatever was said before the start counts: the owner may be gone by now.
    let said = lifeline.listen(None, Duration::ZERO);
    let last_word = if lifeline.trust.passed() {
        Report::Untrusted
    } else if said != Said::Nothing {
        Report::Stopped
    } else {
        match start(&errand.program, &errand.args) {
            Err(error) => Report::Failed(error.raw_os_error().unwrap_or(0)),
            Ok(command) => Watch::over(command, &mut lifeline, errand.grace).until_gone(),
        }
    };
    lifeline.tell(last_word);
    Ok(())
}

/// Makes SIGTERM and its like harmless. The guard has a process group of its own, so they come
/// only from someone who means every process in sight (a supervisor ending a unit); the daemon
/// gets them as well and decides, and the lifeline tells the guard.
///
/// Handlers, not `SIG_IGN`: an ignored signal would stay ignored in the command, a handled one
/// starts there with its default again. `std` cannot set either; `tokio` can, and its handlers
/// outlive the runtime that is dropped here.
fn ignore_stray_signals() -> io::Result<()> {
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

/// Starts the command in a process group of its own: a script that signals its own group
/// (`kill 0`) must not hit the guard. Everything else is inherited: the daemon chose it.
fn start(program: &OsString, args: &[OsString]) -> io::Result<Pid> {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()?;
    // The `Child` is dropped without a wait: the guard reaps all its children in one place.
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("the command has no process id"))
}

/// What the daemon asks for on the command line of the guard.
struct Errand {
    trust: MonotonicDeadline,
    grace: Duration,
    program: OsString,
    args: Vec<OsString>,
}

impl Errand {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Self> {
        let trust = MonotonicDeadline::from_nanos(args.next()?.to_str()?.parse().ok()?);
        let grace = Duration::from_millis(args.next()?.to_str()?.parse().ok()?);
        Some(Self {
            trust,
            grace,
            program: args.next()?,
            args: args.collect(),
        })
    }
}

/// What came over the lifeline, apart from trust, which is noted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Stop(Duration),
    OwnerGone,
}

/// The guard's end of the lifeline.
struct Lifeline {
    socket: File,
    inbox: Inbox,
    trust: MonotonicDeadline,
    open: bool,
}

impl Lifeline {
    fn on_stdin(trust: MonotonicDeadline) -> io::Result<Self> {
        let socket = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        Ok(Self {
            socket,
            inbox: Inbox::default(),
            trust,
            open: true,
        })
    }

    /// Sleeps until something is said, the command ends, or the time is over.
    fn listen(&mut self, command: Option<&OwnedFd>, at_most: Duration) -> Said {
        let timeout = Timespec::try_from(at_most).ok();
        let mut watched = Vec::with_capacity(2);
        watched.extend(command.map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        // A closed lifeline is readable for ever and would turn the sleep into a spin.
        if self.open {
            watched.push(PollFd::new(&self.socket, PollFlags::IN));
        }
        // An interrupted sleep is a short sleep; the caller looks around anyway.
        let _interrupted = poll(&mut watched, timeout.as_ref());
        let spoke = self.open && watched.last().is_some_and(|fd| !fd.revents().is_empty());
        if spoke { self.hear() } else { Said::Nothing }
    }

    fn hear(&mut self) -> Said {
        let mut bytes = [0; 1024];
        match self.socket.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Said::Nothing,
            Ok(read) if read > 0 => self.inbox.push(&bytes[..read]),
            _closed => {
                self.open = false;
                return Said::OwnerGone;
            }
        }
        let mut said = Said::Nothing;
        while let Some(order) = self.inbox.next() {
            match order {
                Order::Trust(until) => self.trust = until,
                Order::Stop(grace) => said = Said::Stop(grace),
            }
        }
        said
    }

    /// A daemon that is gone does not listen, and nothing is left to do about it.
    fn tell(&mut self, report: Report) {
        let _gone = self.socket.write_all(report.to_string().as_bytes());
    }
}

/// The command and all below it, from its start to the end of the last process.
struct Watch<'a> {
    lifeline: &'a mut Lifeline,
    command: Pid,
    /// Wakes the guard when the command ends. Without it (a sandbox may forbid it) the guard asks
    /// instead: with the command already running, giving up is no choice.
    pidfd: Option<OwnedFd>,
    grace: Duration,
    leaving: Option<Leaving>,
}

/// The tree is on its way out.
struct Leaving {
    /// What to report once it is gone.
    verdict: Report,
    kill_at: MonotonicDeadline,
    next_look: MonotonicDeadline,
    /// Who got a SIGTERM, by pid and start; `None` before the first look.
    told: Option<HashSet<(i32, u64)>>,
}

impl<'a> Watch<'a> {
    fn over(command: Pid, lifeline: &'a mut Lifeline, grace: Duration) -> Self {
        let pidfd = pidfd_open(command, PidfdFlags::empty()).ok();
        lifeline.tell(Report::Started(command.as_raw_pid()));
        Self {
            lifeline,
            command,
            pidfd,
            grace,
            leaving: None,
        }
    }

    fn until_gone(mut self) -> Report {
        loop {
            let said = match &self.leaving {
                None => {
                    let longest = self.pidfd.as_ref().map_or(LEAVING_TICK, |_| LONGEST_SLEEP);
                    let sleep = self.lifeline.trust.remaining().min(longest);
                    self.lifeline.listen(self.pidfd.as_ref(), sleep)
                }
                Some(_) => self.lifeline.listen(None, LEAVING_TICK),
            };
            // Reap before obeying: a command that ended before the order came ended by itself.
            let tree_is_gone = self.reap();
            self.obey(said);
            match &mut self.leaving {
                Some(leaving) if tree_is_gone => return leaving.verdict,
                Some(leaving) => leaving.drive_out(self.command, self.lifeline.trust),
                None => {}
            }
        }
    }

    fn obey(&mut self, said: Said) {
        match said {
            Said::Stop(grace) => self.leave(Report::Stopped, grace),
            Said::OwnerGone => self.leave(Report::Stopped, self.grace.min(ORPHAN_GRACE)),
            Said::Nothing => {}
        }
        if self.leaving.is_none() && self.lifeline.trust.passed() {
            self.leave(Report::Untrusted, Duration::ZERO);
        }
    }

    /// Begins the end, or hastens it: the first verdict stands, the shortest grace counts.
    fn leave(&mut self, verdict: Report, grace: Duration) {
        let kill_at = MonotonicDeadline::in_(grace);
        match &mut self.leaving {
            Some(leaving) => leaving.kill_at = leaving.kill_at.min(kill_at),
            None => {
                let next_look = MonotonicDeadline::in_(Duration::ZERO);
                self.leaving = Some(Leaving {
                    verdict,
                    kill_at,
                    next_look,
                    told: None,
                });
            }
        }
    }

    /// Collects the dead and notes the command's own end. True when no process is left.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.command => {
                    let verdict = match status.terminating_signal() {
                        Some(signal) => Report::Signaled(signal),
                        None => Report::Exited(status.exit_status().unwrap_or(0)),
                    };
                    // What it leaves behind has lost its reason to run.
                    if self.leaving.is_none() {
                        self.leave(verdict, self.grace.min(LEFTOVER_GRACE));
                    }
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return false,
                Err(_no_children) => return true,
            }
        }
    }
}

impl Leaving {
    /// One look at the tree and a signal to whom it concerns. There is no last try: as long as
    /// something is left, the command must be taken for running.
    fn drive_out(&mut self, command: Pid, trust: MonotonicDeadline) {
        if !self.next_look.passed() {
            return;
        }
        let guard = getpid().as_raw_pid();
        let tree = tree::below(guard);
        if self.kill_at.passed() || trust.passed() {
            let group = command.as_raw_pid();
            if tree.iter().any(|member| member.group == group) {
                tree::kill_group(group);
            }
            for member in tree {
                member.signal(Signal::KILL);
            }
            self.next_look = MonotonicDeadline::in_(LEAVING_TICK);
        } else {
            self.ask_to_leave(guard, &tree);
            self.next_look = MonotonicDeadline::in_(LOOK_EVERY);
        }
    }

    /// SIGTERM, once to each: all that are there at the first look, and later every orphan. What
    /// a living process starts after that is its own cleaning up, and is left to finish.
    fn ask_to_leave(&mut self, guard: i32, tree: &[tree::Member]) {
        let first_look = self.told.is_none();
        let told = self.told.get_or_insert_default();
        for member in tree {
            let concerned = first_look || member.parent == guard;
            if concerned && told.insert((member.pid, member.start)) {
                member.signal(Signal::TERM);
                // A stopped process would not get to hear it.
                member.signal(Signal::CONT);
            }
        }
    }
}
