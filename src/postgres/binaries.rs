//! Finds the server programs of an installed Postgres. Installs and downloads nothing.
//!
//! Distributions keep them out of `PATH`, several versions may be installed, and only the version
//! that made a data folder can read it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::PostgresError;

/// The oldest version that is supported.
pub const OLDEST_VERSION: u32 = 13;

/// The server programs of one installed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    version: u32,
}

impl Binaries {
    /// Finds the programs in `bin_dir`, or without it in the usual folders.
    ///
    /// `data` is a data folder and the version that made it: only this version can be used then.
    pub fn find(bin_dir: Option<&Path>, data: Option<(&Path, u32)>) -> Result<Self, PostgresError> {
        let folders = bin_dir.map_or_else(usual_folders, |folder| vec![folder.into()]);
        let mut found: Vec<Self> = Vec::new();
        for binaries in folders.iter().filter_map(|folder| Self::inspect(folder)) {
            if !found.contains(&binaries) {
                found.push(binaries);
            }
        }
        if let Some(binaries) = choose(&found, data.map(|(_, needed)| needed)) {
            return Ok(binaries);
        }
        let versions: Vec<_> = found.iter().map(|b| b.version.to_string()).collect();
        let versions = if versions.is_empty() {
            "none".into()
        } else {
            versions.join(", ")
        };
        if let Some((data_dir, needed)) = data {
            return Err(PostgresError::WrongVersion {
                data_dir: data_dir.into(),
                needed,
                found: versions,
            });
        }
        let folders: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
        Err(PostgresError::Unusable(format!(
            "found no Postgres server programs of version {OLDEST_VERSION} or newer (found: \
             {versions}; looked in: {}). Install the package `postgresql`, or name the folder that \
             holds `postgres`, `initdb` and `pg_ctl`",
            folders.join(", ")
        )))
    }

    /// The path of one of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder of the programs.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The major version, such as 15.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The server programs in `folder`, if all are there. Follows a link to the real folder, where
    /// the server expects its other files.
    fn inspect(folder: &Path) -> Option<Self> {
        let postgres = folder.join("postgres").canonicalize().ok()?;
        let version = parse_version(&output_of(Command::new(&postgres).arg("--version"))?)?;
        let folder = postgres.parent()?.to_path_buf();
        let complete = ["initdb", "pg_ctl"]
            .iter()
            .all(|name| folder.join(name).is_file());
        complete.then_some(Self { folder, version })
    }
}

/// The first of the needed version, or without one the first that is new enough.
fn choose(found: &[Binaries], needed: Option<u32>) -> Option<Binaries> {
    let fits = |version| needed.map_or(version >= OLDEST_VERSION, |needed| version == needed);
    found
        .iter()
        .find(|binaries| fits(binaries.version))
        .cloned()
}

/// The folders of `PATH`, of Debian, of Red Hat, of a build from source, and of `pg_config`, in
/// order of preference.
fn usual_folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path)
        .filter(|folder| folder.is_absolute() && folder.join("postgres").exists())
        .collect();
    for (parent, prefix) in [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")] {
        let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .collect();
        found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        folders.extend(found.into_iter().map(|(_, folder)| folder));
    }
    folders.push("/usr/local/pgsql/bin".into());
    folders.extend(output_of(Command::new("pg_config").arg("--bindir")).map(PathBuf::from));
    folders
}

/// The major version in, for example, `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(output: &str) -> Option<u32> {
    let (_, number) = output.split_once("(PostgreSQL) ")?;
    number
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// The standard output of a program that succeeds.
fn output_of(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_supported_or_the_needed_version_is_chosen() {
        let chosen = |installed: &[u32], needed| {
            let binaries = |version: &u32| Binaries {
                folder: format!("/usr/lib/postgresql/{version}/bin").into(),
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
        let bin_dir = Some(Path::new("/nonexistent"));
        let error = Binaries::find(bin_dir, Some((Path::new("/state/data"), 14)));
        let message = error.unwrap_err().to_string();
        assert!(message.contains("postgresql-14"), "{message}");
        assert!(message.contains("found: none"), "{message}");
        let message = Binaries::find(bin_dir, None).unwrap_err().to_string();
        assert!(message.contains("looked in: /nonexistent)"), "{message}");
    }

    #[test]
    fn versions_are_parsed() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)";
        assert_eq!(parse_version(debian), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 19beta2"), Some(19));
        assert_eq!(parse_version("postgres (PostgreSQL) 9.6.24"), Some(9));
        assert_eq!(parse_version("postgres: command not found"), None);
    }
}
