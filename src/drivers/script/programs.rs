//! Checks the configured programs at start, without running them. It finds programs that cannot be
//! started; it does not prove that the others can.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::ScriptSettings;
use super::calls::{CREATE, DELETE, EXISTS, PROBE, START, STOP};

/// One line for each setting whose program is missing or cannot be started.
pub(super) fn problems(settings: &ScriptSettings, path: &OsStr) -> Vec<String> {
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
    let invalid = [
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
        let problem = problem(program, path)?;
        Some(format!("{setting}: {} {problem}", program.display()))
    });
    unset.chain(invalid).collect()
}

/// Default programs that are not found. This is not a problem, because a host may have only one
/// provider.
pub(super) fn missing_defaults(settings: &ScriptSettings, path: &OsStr) -> Vec<&'static str> {
    let lists = settings.exists.is_none();
    let start_or_stop = settings.start.is_none() || settings.stop.is_none();
    [
        ("kubectl", settings.probe.is_none()),
        ("k3d", lists || start_or_stop),
        ("kind", lists),
        ("docker", lists || start_or_stop),
    ]
    .into_iter()
    .filter(|(program, used)| *used && problem(Path::new(program), path).is_some())
    .map(|(program, _)| program)
    .collect()
}

/// Why a program cannot be started, as the end of a sentence. A bare name is searched in `path`, as
/// the system does.
fn problem(program: &Path, path: &OsStr) -> Option<&'static str> {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return file_problem(program);
    }
    let found = env::split_paths(path).any(|dir| file_problem(&dir.join(program)).is_none());
    (!found).then_some("is not found in PATH")
}

/// The file of a program that can be started. A bare name is searched in `path`.
pub(super) fn located(program: &Path, path: &OsStr) -> Option<PathBuf> {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return file_problem(program).is_none().then(|| program.to_owned());
    }
    let mut files = env::split_paths(path).map(|dir| dir.join(program));
    files.find(|file| file_problem(file).is_none())
}

fn file_problem(file: &Path) -> Option<&'static str> {
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

    use super::problem;

    #[test]
    fn a_program_is_an_executable_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tool");
        let path = dir.path().as_os_str();
        assert_eq!(problem(&file, OsStr::new("")), Some("does not exist"));
        assert_eq!(
            problem(Path::new("tool"), path),
            Some("is not found in PATH")
        );
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(problem(&file, OsStr::new("")), Some("is not executable"));
        assert_eq!(
            problem(Path::new("tool"), path),
            Some("is not found in PATH")
        );
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(problem(&file, OsStr::new("")), None);
        assert_eq!(problem(Path::new("tool"), path), None);
        assert_eq!(problem(dir.path(), OsStr::new("")), Some("is not a file"));
    }
}
