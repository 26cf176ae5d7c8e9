//! Checks the configured programs without running them, for the report at start.
//! This module must not conclude that a later start will succeed: it only finds what will not.

use std::env;
use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::{Access, access};

use super::ScriptSettings;
use super::calls::{CREATE, DELETE, EXISTS, PROBE, START, STOP};

/// One line for each setting that names no program that can be started.
pub(super) fn faults(settings: &ScriptSettings) -> Vec<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let required = [
        (CREATE, &settings.create, "create_env.sh"),
        (DELETE, &settings.delete, "delete_env.sh"),
    ];
    let unset = required
        .iter()
        .filter(|(_, program, _)| program.is_none())
        .map(|(setting, _, example)| {
            format!("{setting} is not set: give the path of the host's {example}")
        });
    let wrong = [
        (CREATE, &settings.create),
        (DELETE, &settings.delete),
        (PROBE, &settings.probe),
        (EXISTS, &settings.exists),
        (START, &settings.start),
        (STOP, &settings.stop),
    ]
    .into_iter()
    .filter_map(|(setting, program)| {
        let program = program.as_ref()?;
        let fault = fault(program, &path)?;
        Some(format!("{setting}: {} {fault}", program.display()))
    });
    unset.chain(wrong).collect()
}

/// The programs that would be used by default and are not found. A host may well have only one
/// provider, so this is no fault.
pub(super) fn missing_defaults(settings: &ScriptSettings) -> Vec<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    let lists = settings.exists.is_none();
    let power = settings.start.is_none() || settings.stop.is_none();
    [
        ("kubectl", settings.probe.is_none()),
        ("k3d", lists || power),
        ("kind", lists),
        ("docker", lists || power),
    ]
    .into_iter()
    .filter(|(program, used)| *used && fault(Path::new(program), &path).is_some())
    .map(|(program, _)| program)
    .collect()
}

/// Why a program cannot be started, completing a sentence about it. A bare name is looked up in
/// `path` as the system does it.
fn fault(program: &Path, path: &OsStr) -> Option<&'static str> {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return file_fault(program);
    }
    let found = env::split_paths(path).any(|dir| file_fault(&dir.join(program)).is_none());
    (!found).then_some("is not found in PATH")
}

fn file_fault(file: &Path) -> Option<&'static str> {
    if !file.exists() {
        Some("does not exist")
    } else if !file.is_file() {
        Some("is not a file")
    } else if access(file, Access::EXEC_OK).is_err() {
        Some("is not executable")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::fault;

    #[test]
    fn a_program_is_a_file_that_may_be_executed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tool");
        let path = dir.path().as_os_str();
        assert_eq!(fault(&file, OsStr::new("")), Some("does not exist"));
        assert_eq!(fault(Path::new("tool"), path), Some("is not found in PATH"));
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(fault(&file, OsStr::new("")), Some("is not executable"));
        assert_eq!(fault(Path::new("tool"), path), Some("is not found in PATH"));
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(fault(&file, OsStr::new("")), None);
        assert_eq!(fault(Path::new("tool"), path), None);
        assert_eq!(fault(dir.path(), OsStr::new("")), Some("is not a file"));
    }
}
