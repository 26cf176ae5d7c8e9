//! Making the folders the server needs, and a data folder where there is none.
//!
//! A data folder appears whole or not at all: it is made under another name and renamed. This
//! module must not start the server, nor change a data folder that exists.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::account::Account;
use super::binaries::Binaries;
use super::error::{PostgresError, Subject};
use super::layout::Layout;
use super::log::last_lines;

/// The superuser of every server we make.
pub const SUPERUSER: &str = "postgres";

/// How long `initdb` may take; about a second is usual.
const INITDB_DEADLINE: Duration = Duration::from_secs(120);

/// How text is ordered: by code point in UTF-8, or by byte where that locale is missing.
const LOCALES: [&str; 2] = ["C.UTF-8", "C"];

/// The version that made this data folder; none if there is no such folder.
pub(super) fn version_of(data_dir: &Path) -> Result<Option<u32>, PostgresError> {
    let path = data_dir.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => match text
            .trim()
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
        {
            Some(version) => Ok(Some(version)),
            None => Err(PostgresError::NotADataFolder {
                data_dir: data_dir.into(),
            }),
        },
        Err(_) if !data_dir.exists() => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(PostgresError::NotADataFolder {
            data_dir: data_dir.into(),
        }),
        Err(error) => Err(error).naming("read", path),
    }
}

/// Makes the folder that holds all others. It stays ours, so that whoever runs the server can
/// plant no link for root to follow; that user only passes through.
pub(super) fn make_home(layout: &Layout, account: &Account) -> Result<(), PostgresError> {
    let mode = if account.is_lent() { 0o711 } else { 0o700 };
    make_folder(&layout.home, mode)
}

/// Makes the private folder for the socket.
pub(super) fn make_socket_dir(layout: &Layout, account: &Account) -> Result<(), PostgresError> {
    let folder = &layout.socket_dir;
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // In the shared temp folder anyone may have made it; below our own folder nobody.
            let existing = fs::symlink_metadata(folder).naming("look at", folder)?;
            let ours = [account.uid(), rustix::process::geteuid().as_raw()];
            if !existing.is_dir() || !ours.contains(&existing.uid()) {
                return Err(PostgresError::ForeignSocketFolder {
                    socket_dir: folder.clone(),
                });
            }
            fs::set_permissions(folder, Permissions::from_mode(0o700)).naming("close", folder)?;
        }
        Err(error) => return Err(error).naming("create", folder),
    }
    account.own(folder)
}

fn make_folder(folder: &Path, mode: u32) -> Result<(), PostgresError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).naming("create", folder)
        }
        _ => fs::set_permissions(folder, Permissions::from_mode(mode))
            .naming("set the permissions of", folder),
    }
}

/// Fails early and clearly if the server's user cannot enter `folder` or run the server: asks the
/// kernel by trying, and only then looks for the culprit.
pub(super) async fn check_reachable(
    folder: &Path,
    account: &Account,
    binaries: &Binaries,
) -> Result<(), PostgresError> {
    let program = binaries.postgres();
    let mut command = Command::new(&program);
    command
        .arg("--version")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    account.apply(command.as_std_mut());
    match command.status().await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let closed = |wanted: &Path| {
                let folder = account.first_closed_folder(wanted)?;
                let (wanted, user) = (wanted.into(), account.name().into());
                Some(PostgresError::Unreachable {
                    folder,
                    wanted,
                    user,
                })
            };
            Err(closed(folder)
                .or_else(|| closed(&program))
                .unwrap_or(PostgresError::Spawn {
                    program,
                    source: error,
                }))
        }
        Err(source) => Err(PostgresError::Spawn { program, source }),
    }
}

/// Makes the data folder under a provisional name, then gives it its own.
pub(super) async fn create(
    layout: &Layout,
    account: &Account,
    binaries: &Binaries,
    durable: bool,
) -> Result<(), PostgresError> {
    let unfinished = &layout.unfinished_data;
    match fs::remove_dir_all(unfinished) {
        Ok(()) => tracing::warn!(
            folder = %unfinished.display(),
            "removed a data folder whose making was interrupted"
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).naming("remove", unfinished),
    }
    initdb(unfinished, account, binaries, durable).await?;
    fs::rename(unfinished, &layout.data).naming("rename", unfinished)
}

/// Runs `initdb` on a folder that does not exist yet: UTF-8, no password for whoever reaches the
/// socket, no network.
pub async fn initdb(
    data_dir: &Path,
    account: &Account,
    binaries: &Binaries,
    durable: bool,
) -> Result<(), PostgresError> {
    make_folder(data_dir, 0o700)?;
    account.own(data_dir)?;
    let mut failure = None;
    for locale in LOCALES {
        match initdb_with_locale(data_dir, account, binaries, durable, locale).await {
            Ok(()) => return Ok(()),
            Err(error @ PostgresError::Initdb { .. }) => failure = Some(error),
            Err(error) => return Err(error),
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn initdb_with_locale(
    data_dir: &Path,
    account: &Account,
    binaries: &Binaries,
    durable: bool,
    locale: &str,
) -> Result<(), PostgresError> {
    let program = binaries.initdb();
    let mut command = Command::new(&program);
    command
        .arg("-D")
        .arg(data_dir)
        .args(["--username", SUPERUSER])
        .args([
            "--encoding=UTF8",
            "--auth-local=trust",
            "--auth-host=reject",
            "--data-checksums",
            &format!("--locale={locale}"),
        ]);
    if !durable {
        command.arg("--no-sync");
    }
    command
        .stdin(Stdio::null())
        .current_dir("/")
        .kill_on_drop(true);
    account.apply(command.as_std_mut());

    let failed = |outcome: String, output: String| PostgresError::Initdb {
        data_dir: data_dir.into(),
        outcome,
        output,
    };
    match timeout(INITDB_DEADLINE, command.output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(failed(
            output.status.to_string(),
            last_lines(&output.stderr),
        )),
        Ok(Err(source)) => Err(PostgresError::Spawn { program, source }),
        Err(_) => {
            let outcome = format!("killed after {} s", INITDB_DEADLINE.as_secs());
            Err(failed(outcome, last_lines(b"")))
        }
    }
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
        assert!(matches!(
            version_of(&data),
            Err(PostgresError::NotADataFolder { .. })
        ));
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        assert!(matches!(version_of(&data), Ok(Some(15))));
        fs::write(data.join("PG_VERSION"), "what\n").unwrap();
        assert!(matches!(
            version_of(&data),
            Err(PostgresError::NotADataFolder { .. })
        ));
    }
}
