//! Finds the server programs of an installed Postgres. Installs and downloads nothing.
//!
//! Distributions keep them out of `PATH`, several versions may be installed, and only the version
//! that made a data folder can read it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::PostgresError;

/// The oldest version that is supported.
pub const OLDEST_VERSION: u32 = 13;

/// The server programs of one installed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    pub(super) folder: PathBuf,
    pub(super) version: u32,
}

impl Binaries {
    /// Finds the programs in `bin_dir`, or without it in the usual folders: of the version
    /// `needed`, or without it the newest.
    pub fn find(bin_dir: Option<&Path>, needed: Option<u32>) -> Result<Self, PostgresError> {
        let folders = bin_dir.map_or_else(usual_folders, |folder| vec![folder.into()]);
        let found: Vec<Self> = folders
            .iter()
            .filter_map(|folder| Self::inspect(folder))
            .collect();
        choose(&found, needed).ok_or_else(|| {
            let versions: Vec<_> = found.iter().map(|found| found.version).collect();
            let usual = Path::new("PATH and the usual folders");
            let looked_in = bin_dir.unwrap_or(usual).display();
            match needed {
                Some(needed) => PostgresError::WrongVersion(format!(
                    "the data was made by Postgres {needed}, whose server programs were not found \
                     in {looked_in} (found: {versions:?}). Install Postgres {needed} (on Debian \
                     and Ubuntu: the package `postgresql-{needed}`), or move the data folder away \
                     to start with an empty database"
                )),
                None => PostgresError::Unusable(format!(
                    "found no Postgres server programs of version {OLDEST_VERSION} or newer in \
                     {looked_in} (found: {versions:?}). Install the package `postgresql`, or set \
                     KINDLER_POSTGRES_BIN to the folder with `postgres` and `initdb`"
                )),
            }
        })
    }

    /// The path of one of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The server programs in `folder`, if they are there. Follows a link to the real folder, where
    /// the server expects its other files.
    fn inspect(folder: &Path) -> Option<Self> {
        let initdb = folder.join("initdb").canonicalize().ok()?;
        let folder = initdb.parent()?.to_path_buf();
        let version = parse_version(&output_of(Command::new(initdb).arg("--version"))?)?;
        Some(Self { folder, version })
    }
}

fn choose(found: &[Binaries], needed: Option<u32>) -> Option<Binaries> {
    let fits = |version| needed.map_or(version >= OLDEST_VERSION, |needed| version == needed);
    let fitting = found.iter().filter(|binaries| fits(binaries.version));
    fitting.max_by_key(|binaries| binaries.version).cloned()
}

/// The folders of `PATH`, of a build from source, of Debian and of Red Hat.
fn usual_folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.retain(|folder| folder.is_absolute());
    folders.push("/usr/local/pgsql/bin".into());
    for version in 1..100 {
        folders.push(format!("/usr/lib/postgresql/{version}/bin").into());
        folders.push(format!("/usr/pgsql-{version}/bin").into());
    }
    folders
}

/// The major version in, for example, `initdb (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(output: &str) -> Option<u32> {
    let (_, number) = output.split_once("(PostgreSQL) ")?;
    let major = number.split(|c: char| !c.is_ascii_digit()).next();
    major?.parse().ok()
}

/// The standard output of a program that succeeds.
pub(super) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_or_the_needed_version_is_chosen() {
        let folder = PathBuf::new();
        let installed = [12, 17, 15].map(|version| Binaries {
            folder: folder.clone(),
            version,
        });
        for (needed, version) in [(None, Some(17)), (Some(15), Some(15)), (Some(16), None)] {
            let chosen = choose(&installed, needed);
            assert_eq!(chosen.map(|chosen| chosen.version), version);
        }
        assert_eq!(choose(&installed[..1], None), None);
    }

    #[test]
    fn missing_programs_are_named_with_what_to_install() {
        for (needed, package) in [(Some(14), "`postgresql-14`"), (None, "`postgresql`")] {
            let error = Binaries::find(Some(Path::new("/nonexistent")), needed).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("in /nonexistent (found: [])"), "{text}");
            assert!(text.contains(package), "{text}");
        }
    }

    #[test]
    fn versions_are_parsed() {
        let debian = "initdb (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)";
        assert_eq!(parse_version(debian), Some(15));
        assert_eq!(parse_version("initdb (PostgreSQL) 19beta2"), Some(19));
        assert_eq!(parse_version("initdb: command not found"), None);
    }
}
