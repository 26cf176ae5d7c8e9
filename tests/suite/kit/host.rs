//! A host whose commands create simulated clusters, and the journal that the commands
//! write. The tests check the journal, which does not depend on the daemon.
//!
//! A cluster is a file in `clusters/` that contains `healthy`, `unhealthy` or
//! `stopped`. Shell text in `control/` changes what a command does. Each command writes
//! its start and end with pid, fence and generation, and `OVERLAP` if another command
//! of the same cluster still runs.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{TIMEOUT, eventually, run_folder};

/// Parses `-n NAME` and writes the journal; `$verb` and `$here` are set before it.
const PRELUDE: &str = r#"
name=
while [ $# -gt 0 ]; do case "$1" in -n) name=$2; shift 2 ;; *) name=${name:-$1}; shift ;; esac; done
note() { echo "$1 $verb $name pid=$$ fence=${KINDLER_FENCE:-} generation=${KINDLER_GENERATION:-} attempt=${KINDLER_ATTEMPT:-}" >> "$here/journal"; }
for other in "$here/live/$name".*; do
    # A process that has ended and is not reaped yet does not count.
    [ -e "$other" ] && grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/${other##*.}/status" && note OVERLAP
done
: > "$here/live/$name.$$"
trap 'note end; rm -f "$here/live/$name.$$"' EXIT
trap 'exit 143' TERM
note start
[ -e "$here/control/$verb" ] && . "$here/control/$verb"
[ -e "$here/control/$name.$verb" ] && . "$here/control/$name.$verb"
"#;

/// The host; its folder is removed with it.
#[derive(Debug)]
pub struct Host {
    folder: TempDir,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// `start`, `end` or `OVERLAP`.
    pub what: String,
    /// `create`, `delete`, `start` or `stop`.
    pub verb: String,
    /// The name of the cluster.
    pub name: String,
    /// The process id of the command.
    pub pid: i32,
    /// The term of the lease that it ran under.
    pub fence: i64,
    /// The generation that it ran for.
    pub generation: i64,
    /// The number of the attempt, counted from the last success.
    pub attempt: u32,
}

impl Host {
    /// A host without clusters, whose commands succeed at once.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("host-")
            .tempdir_in(run_folder())
            .unwrap();
        for part in ["clusters", "control", "live", "state"] {
            fs::create_dir(folder.path().join(part)).unwrap();
        }
        fs::write(folder.path().join("journal"), "").unwrap();
        let host = Self { folder };
        let script = |verb: &str, work: &str| format!("verb={verb}\n{PRELUDE}\n{work}\n");
        host.script(
            "create",
            &script("create", r#"echo healthy > "$here/clusters/$name""#),
        );
        host.script(
            "delete",
            &script("delete", r#"rm -f "$here/clusters/$name""#),
        );
        host.script(
            "start",
            &script(
                "start",
                r#"[ -e "$here/clusters/$name" ] && echo healthy > "$here/clusters/$name""#,
            ),
        );
        host.script(
            "stop",
            &script(
                "stop",
                r#"[ -e "$here/clusters/$name" ] && echo stopped > "$here/clusters/$name""#,
            ),
        );
        host.script(
            "probe",
            r#"[ -e "$here/control/probe" ] && . "$here/control/probe"
               grep -qx healthy "$here/clusters/$1" 2>/dev/null || { echo "no answer from $1"; exit 1; }"#,
        );
        host.script(
            "exists",
            r#"[ -e "$here/control/exists" ] && . "$here/control/exists"
               [ -e "$here/clusters/$1" ] || exit 1"#,
        );
        host
    }

    /// The folder of this host.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The daemon's state folder on this host.
    pub fn state_dir(&self) -> PathBuf {
        self.path().join("state")
    }

    /// The path of a command.
    pub fn command(&self, verb: &str) -> PathBuf {
        self.path().join(format!("{verb}.sh"))
    }

    /// Replaces a command.
    pub fn script(&self, verb: &str, text: &str) {
        let path = self.command(verb);
        let part = path.with_extension("part");
        let text = format!("#!/bin/sh\nhere='{}'\n{text}\n", self.path().display());
        fs::write(&part, text).unwrap();
        fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(part, path).unwrap();
    }

    /// Sets shell text that a command runs before its work: for all clusters (`create`)
    /// or for one (`dev.create`); `probe` and `exists` cannot be set for one.
    pub fn control(&self, of: &str, shell: &str) {
        let path = self.path().join("control").join(of);
        let part = self.path().join("live").join(format!("{of}.part"));
        fs::write(&part, format!("{shell}\n")).unwrap();
        fs::rename(part, path).unwrap();
    }

    /// Makes every second probe fail, until `probe` is released.
    pub fn fail_every_second_probe(&self) {
        self.control(
            "probe",
            r#"n=$(cat "$here/live/n" 2>/dev/null || echo 0); n=$((n + 1)); echo $n > "$here/live/n"
               [ $((n % 2)) -eq 0 ] || { echo timeout; exit 1; }"#,
        );
    }

    /// Undoes [`Self::control`].
    pub fn release(&self, of: &str) {
        let _ = fs::remove_file(self.path().join("control").join(of));
    }

    /// The state of a cluster on the host, if it exists.
    pub fn cluster(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.path().join("clusters").join(name)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Changes or removes (`None`) a cluster without the daemon.
    pub fn set_cluster(&self, name: &str, state: Option<&str>) {
        let path = self.path().join("clusters").join(name);
        match state {
            Some(state) => fs::write(path, format!("{state}\n")).unwrap(),
            None => drop(fs::remove_file(path)),
        }
    }

    /// The journal, in order.
    pub fn journal(&self) -> Vec<JournalEntry> {
        let text = fs::read_to_string(self.path().join("journal")).unwrap();
        text.lines().filter_map(JournalEntry::parse).collect()
    }

    /// The verbs of the commands that were started for a cluster, in order.
    pub fn started(&self, name: &str) -> Vec<String> {
        let mine = |entry: &JournalEntry| entry.what == "start" && entry.name == name;
        self.journal()
            .into_iter()
            .filter(mine)
            .map(|entry| entry.verb)
            .collect()
    }

    /// Waits until exactly these commands were started for a cluster, in this order.
    pub async fn wait_started(&self, name: &str, verbs: &[&str]) {
        let awaited = format!("commands {verbs:?} of cluster {name}");
        eventually(TIMEOUT, &awaited, || async { self.started(name) == verbs }).await;
    }

    /// Panics if two commands of one cluster ever ran at the same time, or a later one
    /// had a smaller fence.
    pub fn assert_one_at_a_time(&self) {
        let journal = self.journal();
        assert!(
            !journal.iter().any(|entry| entry.what == "OVERLAP"),
            "{journal:#?}"
        );
        let mut fences = std::collections::HashMap::new();
        for entry in journal.iter().filter(|entry| entry.what == "start") {
            let last = fences.insert(&entry.name, entry.fence).unwrap_or(i64::MIN);
            assert!(
                entry.fence >= last,
                "a command with a stale fence: {entry:?} in {journal:#?}"
            );
        }
    }

    /// Panics if a delete was started for a cluster that was not declared absent
    /// before. `absent` holds the generations that were.
    pub fn assert_deleted_as_declared(&self, absent: &HashSet<(String, i64)>) {
        for entry in self.journal() {
            let declared = |(name, generation): &(String, i64)| {
                *name == entry.name && *generation <= entry.generation
            };
            let deletes = entry.what == "start" && entry.verb == "delete";
            assert!(
                !deletes || absent.iter().any(declared),
                "a delete that was not declared: {entry:?}"
            );
        }
    }

    /// The processes of actions on this host that still run, from the process table:
    /// also those that left their session or cleared their environment. A guard counts;
    /// a daemon and a probe do not.
    pub fn live_processes(&self) -> Vec<String> {
        let home = format!("HOME={}", self.path().display());
        let mut found = Vec::new();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let process = process.path();
            let Ok(environment) = fs::read(process.join("environ")) else {
                continue;
            };
            let has = |matches: &dyn Fn(&[u8]) -> bool| environment.split(|b| *b == 0).any(matches);
            let is_action = has(&|set| set == home.as_bytes())
                && has(&|set| set.starts_with(b"KINDLER_FENCE="));
            let cleared = !has(&|set| set.starts_with(b"HOME="))
                && fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == self.path());
            if is_action || cleared {
                let line = fs::read(process.join("cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                // Without a command line it has ended, and waits to be reaped.
                if !line.is_empty() {
                    found.push(format!("{} {line}", process.display()));
                }
            }
        }
        found
    }

    /// Files in the daemon's state folder that are not needed any more: only the logs
    /// of clusters may remain.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.state_dir()).unwrap().flatten() {
            // The locks of running daemons, and of those that were killed last; the largest
            // term.
            if !["logs", "owners", "terms"]
                .iter()
                .any(|name| entry.file_name() == *name)
            {
                found.push(entry.path());
            }
        }
        for log in fs::read_dir(self.state_dir().join("logs"))
            .into_iter()
            .flatten()
        {
            let path = log.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if !name.ends_with(".log") && !name.ends_with(".log.1") {
                found.push(path);
            }
        }
        found
    }

    /// The process ids of commands that still run.
    pub fn live_commands(&self) -> Vec<i32> {
        let live = fs::read_dir(self.path().join("live")).unwrap();
        live.filter_map(|entry| entry.ok()?.path().extension()?.to_str()?.parse().ok())
            .filter(|pid| runs(*pid))
            .collect()
    }

    /// Waits until exactly this many commands run.
    pub async fn wait_commands(&self, count: usize) {
        let awaited = format!("{count} running commands");
        eventually(TIMEOUT, &awaited, || async {
            self.live_commands().len() == count
        })
        .await;
    }
}

/// Whether a process exists and is not a zombie.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

impl JournalEntry {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (what, verb, name) = (words.next()?, words.next()?, words.next()?);
        let mut value = |key: &str| -> Option<i64> {
            let word = words.next()?.strip_prefix(key)?.strip_prefix('=')?;
            Some(word.parse().unwrap_or(0))
        };
        Some(Self {
            what: what.to_owned(),
            verb: verb.to_owned(),
            name: name.to_owned(),
            pid: i32::try_from(value("pid")?).ok()?,
            fence: value("fence")?,
            generation: value("generation")?,
            attempt: u32::try_from(value("attempt")?).ok()?,
        })
    }
}
