//! Makes the server's folders, and with `initdb` a data folder if there is none.
//!
//! A data folder is made under another name and renamed, so it is complete or absent. This module
//! does not change a data folder that exists.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use tokio::process::Command;
use tokio::time::timeout;

use super::account::Account;
use super::binaries::Binaries;
use super::error::{PostgresError, failed};
use super::paths::ServerPaths;

/// No network, and no password: the folder of the socket decides who may connect. Text is ordered
/// by code point, as bytes of UTF-8 are.
const INITDB_ARGUMENTS: &str = "--username=postgres --encoding=UTF8 --locale=C --auth-local=trust \
                                --auth-host=reject --data-checksums";

/// How long `initdb` may take; about a second is usual.
const INITDB_DEADLINE: Duration = Duration::from_secs(120);

/// The version that made this data folder; none if there is no such folder.
pub(super) fn version_of(data_dir: &Path) -> Result<Option<u32>, PostgresError> {
    if !data_dir.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(data_dir.join("PG_VERSION")).unwrap_or_default();
    text.trim().parse().map(Some).map_err(|_| {
        PostgresError::Unusable(format!(
            "{} is not a Postgres data folder that this user may read (PG_VERSION); run kindler as \
             its owner or as root, or move it away to start anew",
            data_dir.display()
        ))
    })
}

/// Makes the state folder if it is missing, and returns its path without links. Other users may
/// pass through a folder that root makes, because the user who runs Postgres must.
pub(super) fn make_state_dir(state_dir: &Path) -> Result<PathBuf, PostgresError> {
    if !state_dir.exists() {
        make_folder(state_dir, if geteuid().is_root() { 0o711 } else { 0o700 })?;
    }
    fs::canonicalize(state_dir).map_err(failed("resolve", state_dir))
}

/// Makes the server's folders. Kindler's user owns the one that holds the others, so that the user
/// who runs the server cannot place a link there for root to follow; that user only passes through.
pub(super) fn make_folders(paths: &ServerPaths, account: Account) -> Result<(), PostgresError> {
    let mode = if account.is_current() { 0o700 } else { 0o711 };
    make_folder(&paths.home, mode)?;
    let folder = &paths.socket_dir;
    let _ = DirBuilder::new().mode(0o700).create(folder);
    // In the shared temp folder another user may have made it.
    let made = fs::symlink_metadata(folder).map_err(failed("create", folder))?;
    if !made.is_dir() || ![account.uid, geteuid().as_raw()].contains(&made.uid()) {
        return Err(PostgresError::Unusable(format!(
            "{} should be a private folder for the database socket, but belongs to another user; \
             remove it, or set TMPDIR to another folder",
            folder.display()
        )));
    }
    make_folder(folder, 0o700)?;
    account.own(folder)
}

fn make_folder(folder: &Path, mode: u32) -> Result<(), PostgresError> {
    fs::create_dir_all(folder).map_err(failed("create", folder))?;
    let permissions = Permissions::from_mode(mode);
    fs::set_permissions(folder, permissions).map_err(failed("set the permissions of", folder))
}

/// Makes a data folder with `initdb`: under another name, then renames it.
pub async fn initdb(
    data_dir: &Path,
    account: Account,
    binaries: &Binaries,
    durable: bool,
) -> Result<(), PostgresError> {
    let unfinished = data_dir.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(failed("remove", &unfinished))?;
    }
    make_folder(&unfinished, 0o700)?;
    account.own(&unfinished)?;
    let mut command = Command::new(binaries.program("initdb"));
    account.apply(command.as_std_mut());
    command
        .args(INITDB_ARGUMENTS.split_whitespace())
        .args((!durable).then_some("--no-sync"))
        .arg("-D")
        .arg(&unfinished)
        .kill_on_drop(true);
    let failure = match timeout(INITDB_DEADLINE, command.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            return fs::rename(&unfinished, data_dir).map_err(failed("create", data_dir));
        }
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stderr).into(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("killed after {} s", INITDB_DEADLINE.as_secs()),
    };
    let data_dir = data_dir.display();
    Err(PostgresError::Unusable(format!(
        "initdb could not make {data_dir}: {failure}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_data_is_its_major_number() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert!(matches!(version_of(&data), Ok(None)));
        fs::create_dir(&data).unwrap();
        assert!(matches!(version_of(&data), Err(PostgresError::Unusable(_))));
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        assert!(matches!(version_of(&data), Ok(Some(15))));
    }
}
