//! The user who runs Postgres: the current one, or for root an unprivileged one, because Postgres
//! refuses to run as root.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{getegid, geteuid};

use super::error::{PostgresError, failed};

/// The accounts that run Postgres for root, best first.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

const NO_ACCOUNT: &str = "Postgres refuses to run as root, and neither the user `postgres` nor \
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
        let passwd = fs::read("/etc/passwd").unwrap_or_default();
        let passwd = String::from_utf8_lossy(&passwd);
        let mut users = UNPRIVILEGED.into_iter();
        let found = users.find_map(|name| Self::entry(&passwd, name));
        found.ok_or_else(|| PostgresError::Unusable(NO_ACCOUNT.into()))
    }

    /// The account for a data folder. Root takes its owner, because Postgres accepts no other; if
    /// that is root (of a copy, say), root gives it to the account for new data.
    pub(super) fn for_data(data_dir: &Path) -> Result<Self, PostgresError> {
        let account = Self::for_new_data()?;
        match fs::metadata(data_dir) {
            Ok(folder) if !account.is_current() => {
                let (uid, gid) = (folder.uid(), folder.gid());
                let owner = Self { uid, gid };
                if !owner.is_current() {
                    return Ok(owner);
                }
                tracing::warn!(
                    data_dir = %data_dir.display(), uid = account.uid,
                    "the Postgres data belongs to root; giving it to the user who runs Postgres"
                );
                account.own_all(data_dir)?;
            }
            _ => {}
        }
        Ok(account)
    }

    /// The user and group number of a user in `/etc/passwd`, which must not be root's.
    fn entry(passwd: &str, name: &str) -> Option<Self> {
        let mut users = passwd.lines().map(|line| line.split(':'));
        let mut fields = users.find_map(|mut fields| (fields.next()? == name).then_some(fields))?;
        let uid = fields.nth(1)?.parse().ok().filter(|uid| *uid != 0)?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { uid, gid })
    }

    /// Whether this is the user of this process. Folders must be given to any other.
    pub(super) fn is_current(self) -> bool {
        self.uid == geteuid().as_raw()
    }

    /// Makes a command run as this account: without root's groups and input, in a folder that
    /// everyone may enter, without the `PG*` variables for clients, and with messages in English.
    pub fn apply(self, command: &mut Command) -> &mut Command {
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if !self.is_current() {
            // As root, `uid` also clears the supplementary groups.
            command.uid(self.uid).gid(self.gid);
        }
        command
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
    }

    /// Gives one file or folder to this account.
    pub fn own(self, path: &Path) -> Result<(), PostgresError> {
        if self.is_current() {
            return Ok(());
        }
        lchown(path, Some(self.uid), Some(self.gid)).map_err(failed("change the owner of", path))
    }

    /// Gives a folder and all in it to this account. Does not follow links.
    fn own_all(self, path: &Path) -> Result<(), PostgresError> {
        self.own(path)?;
        if fs::symlink_metadata(path).is_ok_and(|file| file.is_dir()) {
            for entry in fs::read_dir(path).map_err(failed("list", path))? {
                self.own_all(&entry.map_err(failed("list", path))?.path())?;
            }
        }
        Ok(())
    }

    /// Fails if this account may not enter `wanted`, and names the first closed folder on the path.
    pub(super) fn check_enters(self, wanted: &Path) -> Result<(), PostgresError> {
        let closed = |folder: &&Path| !self.enters(folder);
        let Some(folder) = wanted.ancestors().take_while(closed).last() else {
            return Ok(());
        };
        let (uid, wanted, folder) = (self.uid, wanted.display(), folder.display());
        Err(PostgresError::Unreachable(format!(
            "the user {uid}, who runs Postgres for root, may not enter {folder}, and so cannot reach \
             {wanted}; choose another state folder, or let that user in: chmod o+x {folder}"
        )))
    }

    /// Asks the kernel, because permission bits do not tell everything.
    fn enters(self, folder: &Path) -> bool {
        let mut command = Command::new("/bin/sh");
        self.apply(command.args(["-c", ":"])).current_dir(folder);
        let ended = command.status();
        !ended.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_found_among_invalid_lines() {
        let passwd = "root:x:0:0::/root:/bin/sh\n# a comment\n+::::::\nbroken:x:many:1::/:\n\
                      postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";
        let (uid, gid) = (101, 104);
        assert_eq!(
            Account::entry(passwd, "postgres"),
            Some(Account { uid, gid })
        );
        for none in ["root", "broken", "nobody"] {
            assert_eq!(Account::entry(passwd, none), None);
        }
    }
}
