//! Recognizes a command that could not do its work: then its exit code says nothing about the
//! cluster. Pure.
//!
//! A shell exits with 126 or 127 if it cannot execute a program. kubectl and docker exit with 1
//! for everything, so their own words decide. A line that is recognized although the command
//! worked makes an observation unknown, which repairs nothing; a line that is missed makes a
//! healthy cluster count as ill. So the words are searched in all last lines.

use crate::command::{Ending, FinishedCommand};

/// What a person does about it.
pub(super) const NEXT: &str = "check the daemon's PATH, kubeconfig and container runtime";

/// Pairs of words that kubectl and docker print if they have no configuration, no context or
/// no engine; a line must have both.
const WORDS: &[(&str, &str)] = &[
    ("context", "does not exist"),
    ("context was not found", ""),
    ("no context exists with the name", ""),
    ("no configuration has been provided", ""),
    ("invalid configuration", ""),
    ("error loading config file", ""),
    ("Config not found", ""),
    ("unable to read client-cert", ""),
    ("unable to read client-key", ""),
    ("unable to read certificate-authority", ""),
    ("KUBECONFIG", "no such file"),
    ("kubeconfig", "no such file"),
    ("kubeconfig", "does not exist"),
    ("error: stat ", "no such file"),
    // kubectl without a kubeconfig asks this address.
    ("server localhost:8080 was refused", ""),
    ("Cannot connect to the Docker daemon", ""),
    ("to the docker API", ""),
    ("to the Docker daemon socket", "permission denied"),
    ("Cannot connect to Podman", ""),
];

/// Why the command could not do its work, if so.
pub(super) fn why(finished: &FinishedCommand) -> Option<&str> {
    if finished.ending.is_clean() {
        return None;
    }
    let named = finished.tail.iter().rev().find(|line| tells(line));
    let code = match finished.ending {
        Ending::Exited(126) => Some("a program in it cannot be executed"),
        Ending::Exited(127) => Some("a program in it does not exist"),
        _ => None,
    };
    let last = finished.tail.last().map(|line| line.trim());
    match named {
        Some(line) => Some(line.trim()),
        None => code.map(|code| last.unwrap_or(code)),
    }
}

fn tells(line: &str) -> bool {
    let has = |(first, second): &(&str, &str)| line.contains(first) && line.contains(second);
    WORDS.iter().any(has) || shell_misses_a_program(line)
}

/// `probe.sh: line 3: kubectl: command not found` of bash, and
/// `probe.sh: 3: kubectl: not found` of other shells.
fn shell_misses_a_program(line: &str) -> bool {
    let parts: Vec<&str> = line.trim().split(": ").collect();
    let [.., place, _, what] = parts.as_slice() else {
        return false;
    };
    let number = place.strip_prefix("line ").unwrap_or(place);
    let at_a_line = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    match *what {
        "command not found" => true,
        "not found" | "Permission denied" => at_a_line,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ended(ending: Ending, line: &str) -> FinishedCommand {
        FinishedCommand {
            ending,
            tail: vec![line.to_owned(), "the probe failed".to_owned()],
            stdout: Vec::new(),
            stdout_bytes: 0,
            stderr_bytes: 0,
            duration: Duration::from_secs(1),
            survivors: Vec::new(),
        }
    }

    #[test]
    fn a_command_that_could_not_work_is_recognized() {
        for line in [
            r#"error: context "k3d-dev" does not exist"#,
            r#"error: no context exists with the name: "k3d-dev""#,
            "error: invalid configuration: no configuration has been provided, try setting KUBERNETES_MASTER environment variable",
            "error: stat /etc/kubeconfig: no such file or directory",
            r#"error: error loading config file "/root/.kube/config": open /root/.kube/config: permission denied"#,
            "error: unable to read client-cert /x.crt for admin due to open /x.crt: no such file or directory",
            "The connection to the server localhost:8080 was refused - did you specify the right host or port?",
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "probe.sh: line 3: kubectl: command not found",
            "/opt/probe.sh: 3: kubectl: not found",
            "/opt/probe.sh: line 3: /opt/kubectl: Permission denied",
        ] {
            assert_eq!(why(&ended(Ending::Exited(1), line)), Some(line));
        }
        assert!(why(&ended(Ending::Exited(126), "")).is_some());
        assert!(why(&ended(Ending::Exited(127), "")).is_some());
    }

    #[test]
    fn the_answer_of_an_ill_cluster_is_no_such_failure() {
        for line in [
            "The connection to the server 0.0.0.0:6550 was refused - did you specify the right host or port?",
            "Unable to connect to the server: net/http: TLS handshake timeout",
            r#"Error from server (NotFound): nodes "dev" not found"#,
            "the server could not find the requested resource",
            "Error from server (Forbidden): nodes is forbidden",
            "curl: (7) Failed to connect to 127.0.0.1 port 18080: Connection refused",
            "",
        ] {
            for ending in [
                Ending::Exited(1),
                Ending::Exited(7),
                Ending::DeadlineExceeded,
            ] {
                assert_eq!(why(&ended(ending, line)), None, "{line}");
            }
        }
        let clean = ended(Ending::Exited(0), "x: line 1: tput: command not found");
        assert_eq!(why(&clean), None);
    }
}
