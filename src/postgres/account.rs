//! Who runs Postgres: it refuses root, so root lends it an unprivileged account.
//!
//! An ordinary user runs it as herself. This module reads `/etc/passwd` and sets the user of a
//! command; it must not start anything, nor become that user itself.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{PostgresError, Subject};

const ROOT: u32 = 0;

/// The accounts root lends, best first.
const LENT: [&str; 2] = ["postgres", "nobody"];

/// The user that initdb and the server run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: String,
    uid: u32,
    gid: u32,
    /// Whether this is another user than the one who runs us; only root can have this.
    lent: bool,
}

impl Account {
    /// The account for a new data folder: our own, or the one that root lends.
    pub fn for_new_data() -> Result<Self, PostgresError> {
        let passwd = read_passwd();
        let uid = rustix::process::geteuid().as_raw();
        if uid != ROOT {
            return Ok(Self::current(&passwd));
        }
        LENT.iter()
            .find_map(|name| entries(&passwd).find(|entry| entry.name == *name))
            .filter(|entry| entry.uid != ROOT)
            .map(|entry| Self {
                lent: true,
                ..entry
            })
            .ok_or(PostgresError::NoAccount)
    }

    /// The account for a data folder that exists: its owner, because Postgres accepts no other.
    ///
    /// Root finding data of root (copied, say) gives it to the account it would lend for new data.
    pub fn for_existing_data(data_dir: &Path) -> Result<Self, PostgresError> {
        let owner = fs::metadata(data_dir).naming("look at", data_dir)?;
        let passwd = read_passwd();
        let current = Self::current(&passwd);
        if owner.uid() == current.uid && current.uid != ROOT {
            return Ok(current);
        }
        if owner.uid() == ROOT && current.uid == ROOT {
            let account = Self::for_new_data()?;
            tracing::warn!(
                data_dir = %data_dir.display(), user = account.name,
                "the Postgres data belongs to root; giving it to the user who runs Postgres"
            );
            account.own_all(data_dir)?;
            return Ok(account);
        }
        let name = name_of(&passwd, owner.uid());
        if current.uid == ROOT {
            return Ok(Self {
                name,
                uid: owner.uid(),
                gid: owner.gid(),
                lent: true,
            });
        }
        Err(PostgresError::ForeignData {
            data_dir: data_dir.into(),
            owner: name,
            current: current.name,
        })
    }

    fn current(passwd: &str) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        Self {
            name: name_of(passwd, uid),
            uid,
            gid,
            lent: false,
        }
    }

    /// The user's name, or its number where it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user's number.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether root lends this account, so that folders must be given to it.
    pub fn is_lent(&self) -> bool {
        self.lent
    }

    /// Makes a command run as this account, without root's groups, free of `PG*` settings that
    /// were meant for clients, and with messages in English.
    pub fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C");
        if self.lent {
            // As root, `uid` also clears the supplementary groups.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives one file or folder to this account; nothing to do unless it is lent.
    pub fn own(&self, path: &Path) -> Result<(), PostgresError> {
        if !self.lent {
            return Ok(());
        }
        lchown(path, Some(self.uid), Some(self.gid)).naming("change the owner of", path)
    }

    /// Gives a folder and all in it to this account, following no links.
    fn own_all(&self, path: &Path) -> Result<(), PostgresError> {
        self.own(path)?;
        if !fs::symlink_metadata(path).naming("look at", path)?.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(path).naming("list", path)? {
            self.own_all(&entry.naming("list", path)?.path())?;
        }
        Ok(())
    }

    /// The first folder on the way to `path` (itself included) that this account may not enter,
    /// as far as the permission bits tell.
    pub(super) fn first_closed_folder(&self, path: &Path) -> Option<PathBuf> {
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        folders
            .into_iter()
            .find(|folder| fs::metadata(folder).is_ok_and(|m| m.is_dir() && !self.may_enter(&m)))
            .map(Path::to_path_buf)
    }

    fn may_enter(&self, folder: &Metadata) -> bool {
        let bit = if folder.uid() == self.uid {
            0o100
        } else if folder.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        folder.mode() & bit != 0
    }
}

fn read_passwd() -> String {
    fs::read("/etc/passwd").map_or_else(|_| String::new(), |b| String::from_utf8_lossy(&b).into())
}

/// The lines of `/etc/passwd` (`name:password:uid:gid:…`) that can be understood.
fn entries(passwd: &str) -> impl Iterator<Item = Account> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account {
            name,
            uid,
            gid,
            lent: false,
        })
    })
}

fn name_of(passwd: &str, uid: u32) -> String {
    entries(passwd)
        .find(|entry| entry.uid == uid)
        .map_or_else(|| uid.to_string(), |entry| entry.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                          # a comment\n\
                          broken:x:many:1::/:\n\
                          +::::::\n\
                          postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";

    #[test]
    fn passwd_lines_that_make_no_sense_are_skipped() {
        let found: Vec<_> = entries(PASSWD).map(|a| (a.name, a.uid, a.gid)).collect();
        assert_eq!(
            found,
            [("root".into(), 0, 0), ("postgres".into(), 101, 104)]
        );
    }

    #[test]
    fn a_user_without_a_name_is_called_by_number() {
        assert_eq!(name_of(PASSWD, 101), "postgres");
        assert_eq!(name_of(PASSWD, 4242), "4242");
    }

    #[test]
    fn the_first_closed_folder_on_the_way_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let closed = temp.path().join("closed");
        let inner = closed.join("inner");
        fs::create_dir_all(&inner).unwrap();
        for folder in [temp.path(), closed.as_path()] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let stranger = Account {
            name: "stranger".into(),
            uid: 4242,
            gid: 4242,
            lent: true,
        };
        assert_eq!(stranger.first_closed_folder(&inner), None);
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(stranger.first_closed_folder(&inner), Some(closed));
    }
}
