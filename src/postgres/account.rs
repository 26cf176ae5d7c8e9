//! The user who runs Postgres: the current one, or for root an unprivileged one, because Postgres
//! does not run as root.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{getegid, geteuid};

use super::binaries::output_of;
use super::error::{PostgresError, failed};

const NO_ACCOUNT: &str = "Postgres does not run as root, and neither the user `postgres` nor \
                          `nobody` exists; create one, or run kindler as an ordinary user";

/// The user that `initdb` and the server run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub(super) uid: u32,
    gid: u32,
}

impl Account {
    /// The account for a new data folder.
    pub fn for_new_data() -> Result<Self, PostgresError> {
        if !geteuid().is_root() {
            let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
            return Ok(Self { uid, gid });
        }
        let found = Self::of_user("postgres").or_else(|| Self::of_user("nobody"));
        found.ok_or_else(|| PostgresError::Unusable(NO_ACCOUNT.into()))
    }

    /// Asks `id`, which also knows the users of a directory service.
    fn of_user(name: &str) -> Option<Self> {
        let id = |which| output_of(Command::new("id").args([which, name]));
        let (uid, gid) = (id("-u")?.parse().ok()?, id("-g")?.parse().ok()?);
        Some(Self { uid, gid })
    }

    /// The account for a data folder. Root takes its owner, because Postgres accepts no other; if
    /// that is root (of a copy, say), root gives it to the account for new data.
    pub(super) fn for_data(data_dir: &Path) -> Result<Self, PostgresError> {
        let account = Self::for_new_data()?;
        let Some(data) = fs::metadata(data_dir).ok().filter(|_| geteuid().is_root()) else {
            return Ok(account);
        };
        let (uid, gid) = (data.uid(), data.gid());
        if uid != 0 {
            return Ok(Self { uid, gid });
        }
        tracing::warn!(
            data_dir = %data_dir.display(), uid = account.uid,
            "the Postgres data belongs to root; giving it to the user who runs Postgres"
        );
        let owner = format!("{}:{}", account.uid, account.gid);
        let mut chown = Command::new("chown");
        let given = output_of(chown.args(["-Rh", &owner]).arg(data_dir));
        given.ok_or_else(|| PostgresError::Unusable(format!("could not run {chown:?}")))?;
        Ok(account)
    }

    /// Makes a command run as this account: without root's groups and input, in a folder that
    /// everyone may enter, and with messages in English.
    pub fn apply(self, command: &mut Command) -> &mut Command {
        command
            // For root, this also clears the supplementary groups.
            .uid(self.uid)
            .gid(self.gid)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
    }

    /// Gives one file or folder to this account.
    pub fn own(self, path: &Path) -> Result<(), PostgresError> {
        lchown(path, Some(self.uid), Some(self.gid)).map_err(failed("change the owner of", path))
    }

    /// Fails if this account may not enter `wanted`, and names the first closed folder on the path.
    pub(super) fn check_enters(self, wanted: &Path) -> Result<(), PostgresError> {
        // Asks the kernel, because permission bits do not tell everything.
        let closed = |folder: &&Path| {
            let mut command = Command::new("/bin/sh");
            let entered = self
                .apply(command.args(["-c", ":"]))
                .current_dir(folder)
                .status();
            entered.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
        };
        let Some(folder) = wanted.ancestors().take_while(closed).last() else {
            return Ok(());
        };
        let (uid, wanted, folder) = (self.uid, wanted.display(), folder.display());
        Err(PostgresError::Unreachable(format!(
            "the user {uid}, who runs Postgres for root, may not enter {folder}, and so cannot reach \
             {wanted}; choose another state folder, or let that user in: chmod o+x {folder}"
        )))
    }
}
