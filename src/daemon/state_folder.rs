//! Checks that the state folder can be used: it has space, belongs to this user, answers in
//! time, and a file in it can be written and read.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use rustix::process::geteuid;

use crate::cause::chain;
use crate::command::state_files;
use crate::findings::{Finding, FindingCode};

/// Less free space than this is too little for logs, in bytes.
const LEAST_FREE: u64 = 16 * 1024 * 1024;

/// What is written and read.
const WRITTEN: &[u8] = b"kindler was here";

/// The space of the folder's file system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FolderSpace {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

/// The result of a check.
#[derive(Debug)]
pub(crate) struct CheckedFolder {
    pub(crate) found: Vec<Finding>,
    pub(crate) space: Option<FolderSpace>,
}

/// Checks the state folder.
pub(crate) async fn check_state_folder(folder: &Path) -> CheckedFolder {
    let checked = folder.to_owned();
    match state_files().run(move || check(&checked)).await {
        Ok(checked) => checked,
        Err(late) => CheckedFolder {
            found: vec![Finding::new(
                FindingCode::StateFolderSlow,
                format!(
                    "the state folder {} does not answer: {late}",
                    folder.display()
                ),
                "check its disk or mount (dmesg, mount); nothing is logged until it answers, and \
                 clusters are still reconciled",
            )],
            space: None,
        },
    }
}

fn check(folder: &Path) -> CheckedFolder {
    let mut found = Vec::new();
    let written = write_and_read(folder);
    let space = statvfs(folder).ok();
    let space_left = space.as_ref().map(|space| FolderSpace {
        free: space.f_bavail.saturating_mul(space.f_frsize),
        total: space.f_blocks.saturating_mul(space.f_frsize),
    });
    let no_files = space.is_some_and(|space| space.f_files > 0 && space.f_favail == 0);
    let full = matches!(&written, Err(error) if matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    ));
    let shown = folder.display();
    if full || no_files || space_left.is_some_and(|space| space.free < LEAST_FREE) {
        let left = space_left.unwrap_or_default().free / (1024 * 1024);
        let what = match no_files {
            true => "no further file".to_owned(),
            false => format!("{left} MiB left"),
        };
        found.push(Finding::new(
            FindingCode::StateFolderFull,
            format!("the state folder {shown} is full: {what}; logs of commands are lost"),
            format!("free space there (df -h {shown}; df -i {shown}), or set KINDLER_STATE_DIR"),
        ));
    } else if let Err(error) = &written {
        let me = geteuid().as_raw();
        found.push(Finding::new(
            FindingCode::StateFolderUnwritable,
            format!(
                "the state folder {shown} cannot be written: {}; logs of commands are lost",
                chain(error)
            ),
            match error.kind() {
                ErrorKind::ReadOnlyFilesystem => {
                    "mount it writable, or set KINDLER_STATE_DIR".into()
                }
                _ => format!("chown -R {me} {shown} && chmod u+rwx {shown}"),
            },
        ));
    }
    found.extend(foreign(folder));
    CheckedFolder {
        found,
        space: space_left,
    }
}

/// Writes, renames, reads and removes a file, as logs and terms are.
fn write_and_read(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let named = |prefix: &str| folder.join(format!(".{prefix}-{}", std::process::id()));
    let (part, whole): (PathBuf, PathBuf) = (named("check"), named("checked"));
    let done = fs::write(&part, WRITTEN)
        .and_then(|()| fs::rename(&part, &whole))
        .and_then(|()| fs::read(&whole));
    // Whatever happened, no file is left.
    let _ = fs::remove_file(&part);
    let removed = fs::remove_file(&whole);
    match done? == WRITTEN {
        true => removed,
        false => Err(io::Error::other("another text is read than was written")),
    }
}

/// A folder of another user: root can write it, others may at any time not.
fn foreign(folder: &Path) -> Option<Finding> {
    let (owner, me) = (fs::metadata(folder).ok()?.uid(), geteuid().as_raw());
    (owner != me && me != 0).then(|| {
        Finding::new(
            FindingCode::StateFolderForeign,
            format!(
                "the state folder {} belongs to user {owner}, and this process runs as {me}",
                folder.display()
            ),
            format!(
                "chown -R {me} {}, or set KINDLER_STATE_DIR",
                folder.display()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(folder: &Path) -> Vec<FindingCode> {
        check(folder).found.iter().map(|one| one.code).collect()
    }

    #[test]
    fn a_usable_folder_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        assert_eq!(codes(&state), []);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        fs::write(&file, "").unwrap();
        assert_eq!(codes(&file), [FindingCode::StateFolderUnwritable]);
        assert_eq!(
            codes(Path::new("/proc/kindler")),
            [FindingCode::StateFolderUnwritable]
        );
    }
}
