//! The format of a program file: what the system needs to start it, besides the right to.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How much of a file is read: the system reads no more of a first line.
const FIRST_BYTES: u64 = 256;

/// What the end of a sentence says of a file that no system can start.
pub(super) const NO_FORMAT: &str =
    "is neither a script that names its interpreter nor a program of this machine";

/// Why the system cannot start a file that exists and is executable, as the end of a sentence.
/// `None` also if that shows only when it is started.
pub fn format_problem(file: &Path) -> Option<String> {
    let start = start_of(file)?;
    match interpreter(&start) {
        Some(path) if path.exists() => None,
        Some(path) => Some(format!(
            "names the interpreter {}, which does not exist",
            shown(&path)
        )),
        // Other formats are the system's affair.
        None => (!start.contains(&0)).then(|| NO_FORMAT.to_owned()),
    }
}

/// The interpreter in the first line of a script, for people.
pub(super) fn named_interpreter(script: &Path) -> String {
    match start_of(script).as_deref().and_then(interpreter) {
        Some(path) => shown(&path),
        // A program that is no script names its loader elsewhere.
        None => "of its format".to_owned(),
    }
}

/// `None` if it cannot be read, which is no obstacle to a start.
fn start_of(file: &Path) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    let read = File::open(file).and_then(|file| file.take(FIRST_BYTES).read_to_end(&mut start));
    read.is_ok().then_some(start)
}

fn interpreter(start: &[u8]) -> Option<PathBuf> {
    let first = start.split(|byte| *byte == b'\n').next()?;
    let first = String::from_utf8_lossy(first);
    let words = first.strip_prefix("#!")?;
    let word = words.split([' ', '\t']).find(|word| !word.is_empty());
    word.map(PathBuf::from)
}

/// Quoted if it has an invisible character: a script with the line ends of Windows names
/// `/bin/sh\r`.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().any(char::is_control) {
        format!("{text:?}")
    } else {
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_no_system_starts_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tool");
        let problem = |content: &[u8]| {
            fs::write(&file, content).unwrap();
            format_problem(&file).unwrap_or_default()
        };
        for fine in [&b"#! /bin/sh -e\ntrue"[..], b"\x7fELF\x02\0"] {
            assert_eq!(problem(fine), "");
        }
        for none in ["true\n", "", " #!/bin/sh\n", "#!\n"] {
            assert_eq!(problem(none.as_bytes()), NO_FORMAT, "{none:?}");
        }
        let missing = |name: &str| format!("names the interpreter {name}, which does not exist");
        assert_eq!(problem(b"#!/no/such"), missing("/no/such"));
        assert_eq!(problem(b"#!/bin/sh\r\n"), missing("\"/bin/sh\\r\""));
        assert_eq!(format_problem(&dir.path().join("none")), None);
    }
}
