//! Parses the output of commands that check whether a cluster exists.
//!
//! Pure and strict: a list that is truncated, empty without an explicit message, or not in the
//! provider's format is unknown, never an absence (law 4).

use serde::Deserialize;

use crate::clusters::ClusterName;
use crate::command::{CommandLine, Ending, FinishedCommand};

use super::brief::{brief, could_not_work};
use super::unusable;

/// The message of `kind get clusters` on stderr if there is no cluster; stdout is empty then.
const KIND_HAS_NONE: &str = "No kind clusters found.";

/// Whether a cluster exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Existence {
    Exists,
    /// It exists and is stopped.
    Stopped,
    Absent,
    /// It is unknown, for this reason.
    Unknown(String),
}

/// From the exit code of the host's own command: 0 exists, 1 absent.
pub(super) fn of_exit_code(line: &CommandLine, finished: &FinishedCommand) -> Existence {
    if let Some(why) = unusable::why(finished) {
        return Existence::Unknown(could_not_work(line, finished, why));
    }
    match finished.ending {
        Ending::Exited(0) => Existence::Exists,
        Ending::Exited(1) => Existence::Absent,
        Ending::Exited(_)
        | Ending::Signaled(_)
        | Ending::DeadlineExceeded
        | Ending::Cancelled
        | Ending::TrustLost => Existence::Unknown(brief(line, finished)),
    }
}

/// One element of `k3d cluster list -o json`. Old releases of k3d have no counts.
#[derive(Debug, Deserialize)]
struct K3dCluster {
    name: String,
    #[serde(rename = "serversCount", default)]
    servers: u32,
    #[serde(rename = "serversRunning", default)]
    running: u32,
}

/// From the output of `k3d cluster list -o json`: an array, `[]` if there is no cluster.
pub(super) fn of_k3d_list(
    line: &CommandLine,
    finished: &FinishedCommand,
    name: &ClusterName,
) -> Existence {
    let stdout = match complete_stdout(line, finished) {
        Ok(stdout) => stdout,
        Err(why) => return Existence::Unknown(why),
    };
    let clusters: Vec<K3dCluster> = match serde_json::from_slice(stdout) {
        Ok(clusters) => clusters,
        Err(error) => {
            return Existence::Unknown(format!("{line} printed no list of clusters: {error}"));
        }
    };
    match clusters.iter().find(|listed| listed.name == name.as_str()) {
        Some(listed) if listed.servers > 0 && listed.running == 0 => Existence::Stopped,
        Some(_) => Existence::Exists,
        None => Existence::Absent,
    }
}

/// From the output of `kind get clusters`: one name per line, or a message that there is none.
pub(super) fn of_kind_list(
    line: &CommandLine,
    finished: &FinishedCommand,
    name: &ClusterName,
) -> Existence {
    let stdout = match complete_stdout(line, finished) {
        Ok(stdout) => String::from_utf8_lossy(stdout),
        Err(why) => return Existence::Unknown(why),
    };
    if !stdout.is_empty() && !stdout.ends_with('\n') {
        return Existence::Unknown(format!("{line} printed an incomplete list"));
    }
    let names: Vec<&str> = stdout.lines().collect();
    if let Some(other) = names.iter().find(|listed| !may_be_kind_name(listed)) {
        return Existence::Unknown(format!(
            "{line} printed something that is not a cluster name: {other:?}"
        ));
    }
    // With an empty stdout the last lines are those of stderr alone.
    let has_none = finished.tail.iter().any(|line| line == KIND_HAS_NONE);
    if names.contains(&name.as_str()) {
        Existence::Exists
    } else if names.is_empty() && !has_none {
        Existence::Unknown(format!(
            "{line} printed nothing, although it prints a message if there is no cluster"
        ))
    } else {
        Existence::Absent
    }
}

/// kind allows dots in names, Kindler does not.
fn may_be_kind_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !text.is_empty() && text.bytes().all(plain)
}

/// The stdout of a command, if the command succeeded and the output is complete.
fn complete_stdout<'a>(
    line: &CommandLine,
    finished: &'a FinishedCommand,
) -> Result<&'a [u8], String> {
    if !finished.ending.is_clean() {
        return Err(brief(line, finished));
    }
    let kept = finished.stdout.len();
    if finished.stdout_bytes > kept as u64 {
        return Err(format!(
            "{line} printed more than the {kept} bytes that are read"
        ));
    }
    Ok(&finished.stdout)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn printed(stdout: &str, stderr: &str, ending: Ending) -> FinishedCommand {
        let lines = stdout.lines().chain(stderr.lines());
        FinishedCommand {
            ending,
            tail: lines.map(str::to_owned).collect(),
            stdout: stdout.into(),
            stdout_bytes: stdout.len() as u64,
            stderr_bytes: stderr.len() as u64,
            duration: Duration::from_secs(1),
            survivors: vec![],
        }
    }

    fn k3d(stdout: &str) -> Existence {
        read_k3d(&printed(stdout, "", Ending::Exited(0)))
    }

    fn read_k3d(finished: &FinishedCommand) -> Existence {
        let line = CommandLine::new("k3d", ["cluster", "list", "-o", "json"]);
        of_k3d_list(&line, finished, &ClusterName::parse("dev").unwrap())
    }

    fn kind(stdout: &str, stderr: &str, ending: Ending) -> Existence {
        let line = CommandLine::new("kind", ["get", "clusters"]);
        let name = ClusterName::parse("dev").unwrap();
        of_kind_list(&line, &printed(stdout, stderr, ending), &name)
    }

    fn unknown(existence: &Existence) -> bool {
        matches!(existence, Existence::Unknown(_))
    }

    #[test]
    fn a_k3d_cluster_is_found_by_its_whole_name() {
        assert_eq!(k3d("[]\n"), Existence::Absent);
        assert_eq!(
            k3d(r#"[{"name":"dev-2"},{"name":"de"}]"#),
            Existence::Absent
        );
        assert_eq!(k3d(r#"[{"name":"dev"}]"#), Existence::Exists);
        let counts = |running| {
            format!(r#"[{{"name":"dev","serversCount":2,"serversRunning":{running},"x":[]}}]"#)
        };
        assert_eq!(k3d(&counts(0)), Existence::Stopped);
        assert_eq!(k3d(&counts(1)), Existence::Exists);
    }

    #[test]
    fn an_invalid_k3d_list_is_unknown() {
        for stdout in [
            "",
            "null",
            "{}",
            "FATA no docker",
            r#"[{"name":"dev"}"#,
            "[{}]",
            "[1]",
        ] {
            assert!(unknown(&k3d(stdout)), "{stdout:?}");
        }
        assert!(unknown(&read_k3d(&printed("[]", "", Ending::Exited(1)))));
        assert!(unknown(&read_k3d(&printed(
            "[]",
            "",
            Ending::DeadlineExceeded
        ))));
        let mut cut = printed("[]", "", Ending::Exited(0));
        cut.stdout_bytes += 1;
        assert!(unknown(&read_k3d(&cut)));
    }

    #[test]
    fn a_kind_cluster_is_absent_only_if_the_list_is_valid() {
        let clean = Ending::Exited(0);
        assert_eq!(kind("dev\nother\n", "", clean), Existence::Exists);
        assert_eq!(kind("dev-2\na.b\n", "", clean), Existence::Absent);
        let none = "enabling experimental podman provider\nNo kind clusters found.\n";
        assert_eq!(kind("", none, clean), Existence::Absent);
        assert!(unknown(&kind("", "", clean)));
        assert!(unknown(&kind("", "something else\n", clean)));
        assert!(unknown(&kind("ERROR: no docker\n", "", clean)));
        assert!(unknown(&kind("", none, Ending::Exited(1))));
        assert!(unknown(&kind("other\n", "", Ending::Signaled(9))));
        assert!(
            unknown(&kind("other\nde", "", clean)),
            "truncated within a line"
        );
    }

    #[test]
    fn other_exit_codes_than_0_and_1_are_unknown() {
        let line = CommandLine::new("exists.sh", ["dev", "k3d"]);
        let of = |ending| of_exit_code(&line, &printed("", "", ending));
        assert_eq!(of(Ending::Exited(0)), Existence::Exists);
        assert_eq!(of(Ending::Exited(1)), Existence::Absent);
        for ending in [
            Ending::Exited(2),
            Ending::Exited(127),
            Ending::Signaled(1),
            Ending::DeadlineExceeded,
        ] {
            assert!(unknown(&of(ending)), "{ending:?}");
        }
    }
}
