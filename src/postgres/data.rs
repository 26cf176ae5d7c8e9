//! Makes the server's folders, and with `initdb` a data folder if there is none.
//!
//! A data folder is made under another name and renamed, so it is complete or absent. This module
//! does not change a data folder that exists.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::SUPERUSER;
use super::account::Account;
use super::binaries::Binaries;
use super::error::{FileContext, PostgresError};
use super::log::last_lines;
use super::paths::ServerPaths;

/// How long `initdb` may take; about a second is usual.
const INITDB_DEADLINE: Duration = Duration::from_secs(120);

/// The order of text: by code point in UTF-8, or by byte where that locale is missing.
const LOCALES: [&str; 2] = ["C.UTF-8", "C"];

/// The version that made this data folder; none if there is no such folder.
pub(super) fn version_of(data_dir: &Path) -> Result<Option<u32>, PostgresError> {
    let path = data_dir.join("PG_VERSION");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(_) if !data_dir.exists() => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context("read", path),
    };
    let major = text
        .trim()
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    match major {
        Some(version) => Ok(Some(version)),
        None => Err(PostgresError::Unusable(format!(
            "{} is not a Postgres data folder (no readable PG_VERSION); move it away to start anew",
            data_dir.display()
        ))),
    }
}

/// Makes the state folder if it is missing, and returns its path without links. Other users may
/// pass through a folder that root makes, because the user who runs Postgres must.
pub(super) fn make_state_dir(state_dir: &Path) -> Result<PathBuf, PostgresError> {
    if !state_dir.exists() {
        if let Some(parent) = state_dir.parent() {
            fs::create_dir_all(parent).context("create", parent)?;
        }
        let mode = if rustix::process::geteuid().is_root() {
            0o711
        } else {
            0o700
        };
        make_folder(state_dir, mode)?;
    }
    state_dir.canonicalize().context("resolve", state_dir)
}

/// Makes the folder that holds all others. Kindler's user owns it, so that the user who runs the
/// server cannot place a link there for root to follow; that user only passes through.
pub(super) fn make_home(paths: &ServerPaths, account: &Account) -> Result<(), PostgresError> {
    make_folder(&paths.home, if account.is_other() { 0o711 } else { 0o700 })
}

fn make_folder(folder: &Path, mode: u32) -> Result<(), PostgresError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).context("create", folder)
        }
        _ => fs::set_permissions(folder, Permissions::from_mode(mode))
            .context("set the permissions of", folder),
    }
}

/// Makes the private folder for the socket.
pub(super) fn make_socket_dir(paths: &ServerPaths, account: &Account) -> Result<(), PostgresError> {
    let folder = &paths.socket_dir;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // In the shared temp folder another user may have made it.
            let existing = fs::symlink_metadata(folder).context("look at", folder)?;
            let owners = [account.uid(), rustix::process::geteuid().as_raw()];
            if !existing.is_dir() || !owners.contains(&existing.uid()) {
                return Err(PostgresError::Unusable(format!(
                    "{} should be a private folder for the database socket, but belongs to \
                     another user; remove it, or set TMPDIR to another folder",
                    folder.display()
                )));
            }
            fs::set_permissions(folder, Permissions::from_mode(0o700))
                .context("set the permissions of", folder)?;
        }
        made => made.context("create", folder)?,
    }
    account.own(folder)
}

/// Makes the data folder.
pub(super) async fn create(
    paths: &ServerPaths,
    account: &Account,
    binaries: &Binaries,
    durable: bool,
) -> Result<(), PostgresError> {
    let unfinished = &paths.unfinished_data;
    match fs::remove_dir_all(unfinished) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        removed => removed.context("remove", unfinished)?,
    }
    initdb(unfinished, account, binaries, durable).await?;
    fs::rename(unfinished, &paths.data).context("rename", unfinished)
}

/// Runs `initdb` on a folder that does not exist yet: UTF-8, no network, and no password, because
/// the folder of the socket decides who may connect.
pub async fn initdb(
    data_dir: &Path,
    account: &Account,
    binaries: &Binaries,
    durable: bool,
) -> Result<(), PostgresError> {
    make_folder(data_dir, 0o700)?;
    account.own(data_dir)?;
    let mut failure = String::new();
    for locale in LOCALES {
        let program = binaries.program("initdb");
        let mut command = Command::new(&program);
        command.arg("-D").arg(data_dir).args([
            &format!("--username={SUPERUSER}"),
            &format!("--locale={locale}"),
            "--encoding=UTF8",
            "--auth-local=trust",
            "--auth-host=reject",
            "--data-checksums",
        ]);
        command.args((!durable).then_some("--no-sync"));
        command
            .stdin(Stdio::null())
            .current_dir("/")
            .kill_on_drop(true);
        account.apply(command.as_std_mut());
        failure = match timeout(INITDB_DEADLINE, command.output()).await {
            Ok(Ok(output)) if output.status.success() => return Ok(()),
            Ok(Ok(output)) => format!("{}:\n{}", output.status, last_lines(&output.stderr)),
            Ok(Err(source)) => return Err(source).context("run", program),
            Err(_) => format!("killed after {} s", INITDB_DEADLINE.as_secs()),
        };
    }
    Err(PostgresError::Unusable(format!(
        "initdb could not make {}: {failure}",
        data_dir.display()
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
        fs::write(data.join("PG_VERSION"), "what\n").unwrap();
        assert!(matches!(version_of(&data), Err(PostgresError::Unusable(_))));
    }
}
