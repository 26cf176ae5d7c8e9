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
    /// `needed`, or without it the first that is supported.
    pub fn find(bin_dir: Option<&Path>, needed: Option<u32>) -> Result<Self, PostgresError> {
        let folders = bin_dir.map_or_else(usual_folders, |folder| vec![folder.into()]);
        let found = folders.iter().filter_map(|folder| Self::inspect(folder));
        let found: Vec<Self> = found.collect();
        choose(&found, needed).ok_or_else(|| {
            let mut versions: Vec<_> = found.iter().map(|found| found.version).collect();
            versions.dedup();
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

    /// The server programs in `folder`, if all are there. Follows a link to the real folder, where
    /// the server expects its other files.
    fn inspect(folder: &Path) -> Option<Self> {
        let postgres = folder.join("postgres").canonicalize().ok()?;
        let folder = postgres.parent()?.to_path_buf();
        let version = parse_version(&output_of(Command::new(postgres).arg("--version"))?)?;
        let complete = folder.join("initdb").is_file();
        complete.then_some(Self { folder, version })
    }
}

fn choose(found: &[Binaries], needed: Option<u32>) -> Option<Binaries> {
    let fits = |version| needed.map_or(version >= OLDEST_VERSION, |needed| version == needed);
    let mut found = found.iter();
    found.find(|binaries| fits(binaries.version)).cloned()
}

/// The folders of `PATH`, of Debian and Red Hat (newest version first), and of a build from source.
fn usual_folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.retain(|folder| folder.is_absolute());
    for version in (1..100).rev() {
        folders.push(format!("/usr/lib/postgresql/{version}/bin").into());
        folders.push(format!("/usr/pgsql-{version}/bin").into());
    }
    folders.push("/usr/local/pgsql/bin".into());
    folders
}

/// The major version in, for example, `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(output: &str) -> Option<u32> {
    let (_, number) = output.split_once("(PostgreSQL) ")?;
    let end = number.find(|c: char| !c.is_ascii_digit());
    number[..end.unwrap_or(number.len())].parse().ok()
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
    fn the_first_supported_or_the_needed_version_is_chosen() {
        let chosen = |installed: &[u32], needed| {
            let binaries = |version: &u32| Binaries {
                folder: "/bin".into(),
                version: *version,
            };
            let installed: Vec<Binaries> = installed.iter().map(binaries).collect();
            choose(&installed, needed).map(|chosen| chosen.version)
        };
        assert_eq!(chosen(&[12, 15, 17], None), Some(15));
        assert_eq!(chosen(&[11, 12], None), None);
        assert_eq!(chosen(&[17, 15, 13], Some(13)), Some(13));
        assert_eq!(chosen(&[17, 15, 13], Some(16)), None);
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
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)";
        assert_eq!(parse_version(debian), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 19beta2"), Some(19));
        assert_eq!(parse_version("postgres: command not found"), None);
    }
}
