//! Finds programs as the system does that starts them, without running them.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::command::format_problem;

/// Why a program cannot be started, as the end of a sentence. A bare name is searched in `path`, as
/// the system does.
pub(super) fn problem(program: &Path, path: &OsStr) -> Option<String> {
    if let Some(file) = located_on(program, path) {
        return format_problem(&file);
    }
    let problem = match program.as_os_str().as_encoded_bytes().contains(&b'/') {
        true => file_problem(program),
        false => Some("is not found in PATH"),
    };
    problem.map(str::to_owned)
}

/// The file of a program that a process with this `PATH` starts, if it can be started.
pub fn located_on(program: &Path, path: &OsStr) -> Option<PathBuf> {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return file_problem(program).is_none().then(|| program.to_owned());
    }
    let mut files = env::split_paths(path).map(|dir| dir.join(program));
    files.find(|file| file_problem(file).is_none())
}

/// What gives the right to execute a program that the system does not let this user execute;
/// `None` for a folder.
pub(super) fn permitting(program: &Path) -> Option<String> {
    let shown = program.display();
    match fs::metadata(program) {
        Ok(found) if found.is_dir() => None,
        // It is not the file that forbids it.
        Ok(found) if found.permissions().mode() & 0o111 == 0o111 => Some(format!(
            "open the folders above {shown} to this user, or move it from a file system that is \
             mounted noexec"
        )),
        Ok(_) | Err(_) => Some(format!("chmod +x {shown}")),
    }
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

    use super::{permitting, problem};

    #[test]
    fn a_program_is_an_executable_file() {
        let some = |text: &str| Some(text.to_owned());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tool");
        let path = dir.path().as_os_str();
        assert_eq!(problem(&file, OsStr::new("")), some("does not exist"));
        assert_eq!(
            problem(Path::new("tool"), path),
            some("is not found in PATH")
        );
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(problem(&file, OsStr::new("")), some("is not executable"));
        assert_eq!(
            problem(Path::new("tool"), path),
            some("is not found in PATH")
        );
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(problem(&file, OsStr::new("")), None);
        assert_eq!(problem(Path::new("tool"), path), None);
        assert_eq!(problem(dir.path(), OsStr::new("")), some("is not a file"));
    }

    #[test]
    fn a_right_that_the_file_gives_is_missing_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tool");
        fs::write(&file, "#!/bin/sh\n").unwrap();
        let next = |mode| {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            permitting(&file).unwrap()
        };
        for mode in [0o644, 0o744] {
            assert_eq!(next(mode), format!("chmod +x {}", file.display()));
        }
        assert!(next(0o755).contains("noexec"));
        assert_eq!(permitting(dir.path()), None);
    }
}
