//! Checks whether this host can make and run clusters: its engine, its tools, its disk and the
//! limits of its kernel. A fault is nothing of a cluster, costs no attempt, and ends by itself.
//! It changes nothing.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::clusters::Provider;
use crate::clusters::plan::Action;
use crate::command::{CommandLimits, CommandLine, Runner, unconditional_trust};

use super::super::{HostFault, located_on};
use super::engine::EngineFacts;
use super::error::NativeError;
use super::node::Shape;

/// The oldest versions with the flags and labels that this driver uses.
const OLDEST: [(Provider, Version); 2] = [
    (Provider::K3d, Version(5, 0)),
    (Provider::Kind, Version(0, 11)),
];

/// How long a tool may take to say its version.
const LIMITS: CommandLimits = CommandLimits {
    deadline: Duration::from_secs(5),
    grace: Duration::from_secs(1),
};

/// How long a tool counts as needed: longer than actions that wait for it pause.
const NEEDED_FOR: Duration = Duration::from_secs(120);

/// With less free space, in bytes, no node can be made: its image alone has hundreds of MB.
const LEAST_FREE: u64 = 1024 * 1024 * 1024;

/// The kubelet of k3s evicts pods from a file system with less free space, in percent.
const EVICTED_BELOW: u64 = 5;

/// What kind recommends for several clusters, and the number of nodes from which on it matters.
const INOTIFY: (&str, u64, usize) = ("max_user_instances", 512, 3);

/// Major and minor number of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

/// The identity of a file, to notice that a tool was installed or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ToolFile {
    path: PathBuf,
    inode: u64,
    changed: (i64, i64),
}

/// What is known of a tool.
#[derive(Clone, Debug)]
struct KnownTool {
    file: ToolFile,
    fault: Option<HostFault>,
}

/// The tools of this host, each asked for its version once.
#[derive(Clone, Debug, Default)]
pub(super) struct HostTools {
    known: Arc<Mutex<HashMap<&'static str, KnownTool>>>,
    /// When an action last needed each.
    needed: Arc<Mutex<HashMap<&'static str, Instant>>>,
}

impl HostTools {
    /// Why the tool that an action needs cannot be used; none if it can.
    pub async fn fault(&self, provider: Provider, runner: &Runner) -> Option<HostFault> {
        let mut needed = self.needed.lock().await;
        needed.insert(provider.as_str(), Instant::now());
        drop(needed);
        self.checked(provider, runner).await
    }

    /// The faults of the tools that matter: of both, or of one that an action has needed.
    pub async fn faults(&self, runner: &Runner) -> Vec<HostFault> {
        let mut faults = Vec::new();
        for provider in Provider::ALL {
            if let Some(fault) = self.checked(provider, runner).await {
                faults.push((provider, fault));
            }
        }
        if faults.len() < Provider::ALL.len() {
            let needed = self.needed.lock().await;
            faults.retain(|(provider, _)| {
                let at = needed.get(provider.as_str());
                at.is_some_and(|at| at.elapsed() < NEEDED_FOR)
            });
        }
        faults.into_iter().map(|(_, fault)| fault).collect()
    }

    async fn checked(&self, provider: Provider, runner: &Runner) -> Option<HostFault> {
        let tool = provider.as_str();
        let path = env::var_os("PATH").unwrap_or_default();
        let Some(program) = located_on(Path::new(tool), &path) else {
            return Some(HostFault::blocking(
                format!("{tool} is not found in the PATH of the daemon"),
                format!("install {tool}, or set the PATH of the daemon"),
            ));
        };
        let file = ToolFile::of(program);
        let mut known = self.known.lock().await;
        match known.get(tool) {
            Some(tool) if tool.file == file => tool.fault.clone(),
            _ => {
                let fault = match asked(provider, &file.path, runner).await {
                    Ok(fault) => fault,
                    // On a busy host the next question may be answered.
                    Err(unanswered) => return Some(unanswered),
                };
                let known_tool = KnownTool {
                    file,
                    fault: fault.clone(),
                };
                known.insert(tool, known_tool);
                fault
            }
        }
    }
}

impl ToolFile {
    fn of(path: PathBuf) -> Self {
        let found = fs::metadata(&path).ok();
        Self {
            inode: found.as_ref().map_or(0, MetadataExt::ino),
            changed: found
                .as_ref()
                .map_or((0, 0), |found| (found.ctime(), found.ctime_nsec())),
            path,
        }
    }
}

/// Asks a tool for its version; an error if it does not answer.
async fn asked(
    provider: Provider,
    program: &Path,
    runner: &Runner,
) -> Result<Option<HostFault>, HostFault> {
    let line = CommandLine::new(program, ["version"]);
    let never_cancelled = CancellationToken::new();
    let trust = unconditional_trust();
    let ran = runner.run(&line, &LIMITS, trust, &never_cancelled, None);
    let next = format!("run `{line}` as the user of the daemon, and install it again");
    match ran.await {
        Ok(done) if done.ending.is_clean() => {
            let said = String::from_utf8_lossy(&done.stdout);
            Ok(judge_version(provider, &said))
        }
        Ok(done) => {
            let said = done.tail.last().cloned().unwrap_or_default();
            let what = format!("`{line}` {}: {said}", done.ending);
            Err(HostFault::blocking(what, next))
        }
        Err(error) => Err(HostFault::blocking(crate::cause::chain(&error), next)),
    }
}

/// Whether a tool that says this is too old.
fn judge_version(provider: Provider, said: &str) -> Option<HostFault> {
    let tool = provider.as_str();
    let (_, oldest) = OLDEST.into_iter().find(|(of, _)| *of == provider)?;
    // A build from source may have no number.
    let version = Version::parse(said)?;
    (version < oldest).then(|| {
        let (Version(major, minor), Version(first, second)) = (version, oldest);
        HostFault::blocking(
            format!("{tool} {major}.{minor} is too old"),
            format!("install {tool} {first}.{second} or newer"),
        )
    })
}

impl Version {
    /// The first number in, for example, `k3d version v5.9.0` or `kind v0.33.0 go1.25.5 linux`.
    fn parse(said: &str) -> Option<Self> {
        let after = said.split_whitespace().find_map(|word| {
            let number = word.strip_prefix('v')?;
            number
                .starts_with(|c: char| c.is_ascii_digit())
                .then_some(number)
        })?;
        let mut parts = after.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some(Self(major, minor))
    }
}

/// Why no answer of the engine can be used.
pub(super) fn of_engine(error: &NativeError) -> HostFault {
    let next = match error {
        NativeError::OtherEngine { .. } | NativeError::EngineOfRow { .. } => "correct DOCKER_HOST",
        _ => {
            "start the container engine (systemctl start docker), let the user of the daemon use \
             it (usermod -aG docker USER), or correct DOCKER_HOST"
        }
    };
    HostFault::blocking(crate::cause::chain(error), next)
}

/// What the engine cannot do that clusters need.
pub(super) fn of_capabilities(facts: &EngineFacts) -> Option<HostFault> {
    if !facts.linux {
        return Some(HostFault::blocking(
            "the container engine runs no Linux containers",
            "switch it to Linux containers",
        ));
    }
    let lacking: Vec<&str> = [("memory", facts.memory), ("CPU", facts.cpu)]
        .into_iter()
        .filter_map(|(what, can)| (!can).then_some(what))
        .collect();
    (!lacking.is_empty()).then(|| {
        HostFault::blocking(
            format!(
                "the container engine cannot limit the {} of a node",
                lacking.join(" and the ")
            ),
            "enable the cgroup controllers of the host; for a rootless engine delegate cpu and \
             memory to its user (systemctl edit user@.service: Delegate=cpu cpuset io memory pids)",
        )
    })
}

/// Whether the disk of the engine has space for nodes. Nothing is known of another host's.
pub(super) fn of_disk(facts: &EngineFacts) -> Option<HostFault> {
    let root = facts.root.as_ref()?;
    let space = statvfs(root).ok()?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let total = space.f_blocks.saturating_mul(space.f_frsize);
    judge_disk(root, free, total)
}

fn judge_disk(root: &Path, free: u64, total: u64) -> Option<HostFault> {
    let next = "free space there (docker system df, docker image prune)";
    let what = format!(
        "the disk of the container engine has {} MiB left ({})",
        free / (1024 * 1024),
        root.display()
    );
    match free {
        ..LEAST_FREE => Some(HostFault::blocking(what, next)),
        _ if free < total / 100 * EVICTED_BELOW => Some(HostFault::warning(
            format!("{what}, less than {EVICTED_BELOW} %: clusters evict their pods"),
            next,
        )),
        _ => None,
    }
}

/// Whether the kernel has enough of what each node uses.
pub(super) fn of_kernel(nodes: usize) -> Option<HostFault> {
    let path = format!("/proc/sys/fs/inotify/{}", INOTIFY.0);
    let limit = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    judge_inotify(limit, nodes)
}

fn judge_inotify(limit: u64, nodes: usize) -> Option<HostFault> {
    let (name, needed, from) = INOTIFY;
    (limit < needed && nodes >= from).then(|| {
        HostFault::warning(
            format!(
                "fs.inotify.{name} is {limit} with {nodes} nodes: further ones fail with \"too many \
                 open files\""
            ),
            format!("sysctl -w fs.inotify.{name}={needed}, and in /etc/sysctl.d"),
        )
    })
}

/// Whether an action on a cluster in this shape runs the tool of its provider.
pub(super) fn needs_tool(action: Action, shape: &Shape, provider: Provider) -> bool {
    match action {
        Action::Create | Action::Update => *shape != Shape::Running,
        Action::Start => provider == Provider::K3d && *shape != Shape::Running,
        Action::Stop => false,
        Action::Delete => *shape != Shape::Absent,
    }
}

/// Whether an action on a cluster in this shape makes containers.
pub(super) fn needs_space(action: Action, shape: &Shape) -> bool {
    matches!(action, Action::Create | Action::Update)
        && matches!(shape, Shape::Absent | Shape::HalfMade(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_that_are_too_old_are_named() {
        let old = judge_version(Provider::K3d, "k3d version v4.4.8\nk3s version latest").unwrap();
        assert_eq!(old.what, "k3d 4.4 is too old");
        assert_eq!(old.next, "install k3d 5.0 or newer");
        for (provider, said) in [
            (
                Provider::K3d,
                "k3d version v5.9.0\nk3s version v1.33.4-k3s1 (default)",
            ),
            (Provider::Kind, "kind v0.33.0 go1.25.5 linux/amd64"),
            (Provider::K3d, "k3d version dev"),
        ] {
            assert_eq!(judge_version(provider, said), None, "{said}");
        }
    }

    #[test]
    fn a_full_disk_blocks_and_a_nearly_full_one_warns() {
        let gib = 1024 * 1024 * 1024;
        let judged = |free, total| judge_disk(Path::new("/var/lib/docker"), free, total);
        assert!(judged(gib - 1, 10 * gib).unwrap().blocks);
        assert!(!judged(4 * gib, 100 * gib).unwrap().blocks);
        assert_eq!(judged(6 * gib, 100 * gib), None);
    }

    #[test]
    fn few_nodes_need_no_further_inotify_instances() {
        assert_eq!(judge_inotify(128, 2), None);
        assert_eq!(judge_inotify(512, 9), None);
        assert!(
            judge_inotify(128, 3)
                .unwrap()
                .next
                .contains("max_user_instances=512")
        );
    }

    #[test]
    fn an_engine_without_limits_says_which() {
        let facts = EngineFacts {
            linux: true,
            memory: false,
            cpu: false,
            processors: None,
            root: None,
        };
        let fault = of_capabilities(&facts).unwrap();
        assert!(
            fault
                .what
                .ends_with("cannot limit the memory and the CPU of a node"),
            "{fault:?}"
        );
    }
}
