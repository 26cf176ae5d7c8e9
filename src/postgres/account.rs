//! The user who runs Postgres: the current one, or an unprivileged one if that is root.
//!
//! Postgres refuses to run as root. This module sets the user of a command; it does not change
//! the user of this process.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::{FileContext, PostgresError};

const ROOT: u32 = 0;

/// The accounts that run Postgres for root, best first.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// The user that `initdb` and the server run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: String,
    uid: u32,
    gid: u32,
    /// Whether this is not the current user; only root can run commands as another user.
    other: bool,
}

impl Account {
    /// The account for a new data folder: the current user, or an unprivileged one for root.
    pub fn for_new_data() -> Result<Self, PostgresError> {
        let current = Self::current();
        if current.uid != ROOT {
            return Ok(current);
        }
        let passwd = read_passwd();
        UNPRIVILEGED
            .iter()
            .find_map(|wanted| {
                entries(&passwd).find(|(name, uid, _)| name == wanted && *uid != ROOT)
            })
            .map(|(name, uid, gid)| Self::other(name, uid, gid))
            .ok_or_else(|| {
                PostgresError::Unusable(
                    "Postgres refuses to run as root, and neither the user `postgres` nor \
                     `nobody` exists; create one, or run kindler as an ordinary user"
                        .into(),
                )
            })
    }

    /// The account for an existing data folder: its owner, because Postgres accepts no other.
    /// If root owns it (a copy, say), root gives it to the account for new data.
    pub fn for_existing_data(data_dir: &Path) -> Result<Self, PostgresError> {
        let owner = fs::metadata(data_dir).context("look at", data_dir)?;
        let current = Self::current();
        match (current.uid, owner.uid()) {
            (ROOT, ROOT) => {
                let account = Self::for_new_data()?;
                tracing::warn!(
                    data_dir = %data_dir.display(), user = account.name,
                    "the Postgres data belongs to root; giving it to the user who runs Postgres"
                );
                account.own_all(data_dir)?;
                Ok(account)
            }
            (ROOT, uid) => Ok(Self::other(name_of(&read_passwd(), uid), uid, owner.gid())),
            (current_uid, uid) if current_uid == uid => Ok(current),
            (_, uid) => Err(PostgresError::Unusable(format!(
                "{} belongs to the user {owner}, but kindler runs as {}; run it as {owner} (or as \
                 root), or choose another state folder",
                data_dir.display(),
                current.name,
                owner = name_of(&read_passwd(), uid)
            ))),
        }
    }

    fn current() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self {
            name: name_of(&read_passwd(), uid),
            uid,
            gid: rustix::process::getegid().as_raw(),
            other: false,
        }
    }

    fn other(name: String, uid: u32, gid: u32) -> Self {
        let other = true;
        Self {
            name,
            uid,
            gid,
            other,
        }
    }

    /// The user's name, or its number if it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user's number.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether this is not the current user, so that folders must be given to it.
    pub fn is_other(&self) -> bool {
        self.other
    }

    /// Makes a command run as this account, without root's groups, without the `PG*` variables
    /// that are meant for clients, and with messages in English.
    pub fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C");
        if self.other {
            // As root, `uid` also clears the supplementary groups.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives one file or folder to this account, unless it is the current user.
    pub fn own(&self, path: &Path) -> Result<(), PostgresError> {
        if !self.other {
            return Ok(());
        }
        lchown(path, Some(self.uid), Some(self.gid)).context("change the owner of", path)
    }

    /// Gives a folder and all in it to this account. Does not follow links.
    fn own_all(&self, path: &Path) -> Result<(), PostgresError> {
        self.own(path)?;
        if fs::symlink_metadata(path)
            .context("look at", path)?
            .is_dir()
        {
            for entry in fs::read_dir(path).context("list", path)? {
                self.own_all(&entry.context("list", path)?.path())?;
            }
        }
        Ok(())
    }

    /// Fails with the first folder on the path to `wanted` that this account may not enter.
    pub(super) fn check_reaches(&self, wanted: &Path) -> Result<(), PostgresError> {
        if self.enters(wanted) {
            return Ok(());
        }
        let mut folders: Vec<&Path> = wanted.ancestors().collect();
        folders.reverse();
        let closed = folders.into_iter().find(|folder| !self.enters(folder));
        Err(PostgresError::Unreachable {
            folder: closed.unwrap_or(wanted).into(),
            wanted: wanted.into(),
            user: self.name.clone(),
        })
    }

    /// Asks the kernel, which knows more than the permission bits tell.
    fn enters(&self, folder: &Path) -> bool {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", ":"])
            .current_dir(folder)
            .stdin(Stdio::null());
        let ended = self.apply(&mut command).status();
        !ended.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }
}

fn read_passwd() -> String {
    fs::read("/etc/passwd").map_or_else(|_| String::new(), |b| String::from_utf8_lossy(&b).into())
}

/// Name, user number and group number of each valid line of `/etc/passwd`.
fn entries(passwd: &str) -> impl Iterator<Item = (String, u32, u32)> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields[..] {
            [name, _, uid, gid, ..] if !name.is_empty() => {
                Some((name.to_owned(), uid.parse().ok()?, gid.parse().ok()?))
            }
            _ => None,
        }
    })
}

/// The name of a user, or its number if it has none.
fn name_of(passwd: &str, uid: u32) -> String {
    let entry = entries(passwd).find(|entry| entry.1 == uid);
    entry.map_or_else(|| uid.to_string(), |(name, ..)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_passwd_lines_are_skipped() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n# a comment\nbroken:x:many:1::/:\n+::::::\n\
                      postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";
        let found: Vec<_> = entries(passwd).collect();
        let expected = [("root".into(), 0, 0), ("postgres".into(), 101, 104)];
        assert_eq!(found, expected);
        assert_eq!(name_of(passwd, 101), "postgres");
        assert_eq!(name_of(passwd, 4242), "4242", "a user without a name");
    }
}
