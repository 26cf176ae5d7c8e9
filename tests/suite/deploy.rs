//! The contents of `deploy/`, checked against the code, the repository and the tools
//! that read them. Nothing here changes the machine: everything is installed into
//! temporary folders.
//!
//! If a tool is not installed, its test is skipped with a message on stderr; with
//! `REQUIRE_TOOLS=1`, as in `make test-deploy`, it fails.

mod backup;
mod containers;
mod install;
mod kubernetes;
mod operations;
pub(crate) mod package;
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

/// An installed program, or `None` with a message on stderr.
fn tool(name: &str) -> Option<Command> {
    required_tool(&[name], "deploy")
}

/// The first installed program of these names, or `None` with a message on stderr, or
/// a panic with `REQUIRE_TOOLS=1`, because this target of the set-up installs it.
pub(crate) fn required_tool(names: &[&str], target: &str) -> Option<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain([repository("tests/tools/venv/bin")])
        .collect();
    let mut paths = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = paths.find(|path| path.is_file());
    if found.is_none() {
        let install = format!("`sh deploy/setup.sh {target}` installs it");
        let missing = format!("{} is not installed; {install}", names[0]);
        assert!(std::env::var_os("REQUIRE_TOOLS").is_none(), "{missing}");
        print_skipped(&missing);
    }
    found.map(Command::new)
}

/// Written past the output capture of the test harness.
pub(crate) fn print_skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Panics unless `kindler` accepts these arguments.
#[track_caller]
pub(crate) fn assert_is_a_command(arguments: &[String]) {
    let mut command = Command::new(KINDLER);
    succeeds(command.args(arguments).arg("--help").env_clear());
}

/// Runs a command that must succeed; returns the output of both streams.
#[track_caller]
pub(crate) fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", printed(&output));
    printed(&output)
}

pub(crate) fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// `deploy/install.sh` with a destination folder.
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

/// Every file below a folder, relative to it, sorted.
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
