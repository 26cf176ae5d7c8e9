//! What `deploy/` ships is held against the code, the repository and the tools
//! that will read it. Nothing here changes the machine: everything is installed
//! into folders of its own.
//!
//! A tool that is not installed skips its test and says so on stderr; with
//! `REQUIRE_TOOLS=1`, as `make test-deploy` sets it, it fails.

mod backup;
mod containers;
mod install;
mod kubernetes;
mod operations;
mod package;
mod systemd;
pub(crate) mod yaml;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::kit::KINDLER;

/// A file or folder of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A command that is there, or `None` with a word on stderr.
fn tool(name: &str) -> Option<Command> {
    let there = tool_if_there(name);
    assert!(
        there.is_some() || std::env::var_os("REQUIRE_TOOLS").is_none(),
        "{name} is not installed; `sh deploy/setup.sh deploy` installs it"
    );
    there
}

/// The same for one that no set-up installs.
fn tool_if_there(name: &str) -> Option<Command> {
    let there = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if there.is_none() {
        print_skipped(&format!("{name} is not installed"));
    }
    there.map(Command::new)
}

/// Past the test harness, which would swallow it.
pub(crate) fn print_skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Panics unless these are arguments that `kindler` takes.
#[track_caller]
pub(crate) fn assert_is_a_command(arguments: &[String]) {
    let mut command = Command::new(KINDLER);
    succeeds(command.args(arguments).arg("--help").env_clear());
}

/// Runs a command that must succeed; what it printed on both streams.
#[track_caller]
pub(crate) fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", printed(&output));
    printed(&output)
}

pub(crate) fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// `deploy/install.sh` on a folder.
fn install(destination: &Path, prefix: &str, what: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .arg(repository("deploy/install.sh"))
        .arg(what)
        .env("DESTDIR", destination)
        .env("PREFIX", prefix)
        .env("BINARY", KINDLER);
    command
}

/// Every file below a folder, without the folder's own name, sorted.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, base: &Path, into: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), base, into);
            } else {
                let path = entry.path();
                into.push(path.strip_prefix(base).unwrap().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}
