//! Finding the server binaries of an installed Postgres.
//!
//! Distributions hide them from `PATH`, several versions may be installed side by side, and data
//! made by one version is read by that version only. This module looks and chooses; it must not
//! install or download anything.

use std::collections::HashSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::PostgresError;

/// The oldest version that will do.
pub const OLDEST_VERSION: u32 = 13;

/// The server binaries of one installed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    version: u32,
}

impl Binaries {
    /// Finds binaries: in `bin_dir` alone if given, else wherever they usually are.
    ///
    /// `data` is a data folder and the version that made it; only that version will do then.
    pub fn find(bin_dir: Option<&Path>, data: Option<(&Path, u32)>) -> Result<Self, PostgresError> {
        let candidates = bin_dir.map_or_else(usual_folders, |folder| vec![folder.to_path_buf()]);
        let found: Vec<Self> = candidates
            .iter()
            .filter_map(|folder| Self::inspect(folder))
            .collect();
        match data {
            None => choose(&found, None).ok_or_else(|| PostgresError::NoBinaries {
                oldest: OLDEST_VERSION,
                looked_in: describe(&candidates, &found),
            }),
            Some((data_dir, needed)) => {
                choose(&found, Some(needed)).ok_or_else(|| PostgresError::WrongVersion {
                    data_dir: data_dir.into(),
                    needed,
                    found: versions(&found),
                })
            }
        }
    }

    /// The server program.
    pub fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    /// The program that makes data folders.
    pub fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    /// The major version, such as 15.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What `folder` holds, if it holds a server; a link is followed to the real folder, where
    /// the server expects its other files.
    fn inspect(folder: &Path) -> Option<Self> {
        let postgres = folder.join("postgres").canonicalize().ok()?;
        let folder = postgres.parent()?.to_path_buf();
        if !folder.join("initdb").is_file() {
            return None;
        }
        let version = parse_version(&said(Command::new(postgres).arg("--version"))?)?;
        Some(Self { folder, version })
    }
}

/// The first that has the needed version, or else the first that is new enough.
fn choose(found: &[Binaries], needed: Option<u32>) -> Option<Binaries> {
    let fits = |version| needed.map_or(version >= OLDEST_VERSION, |needed| version == needed);
    found
        .iter()
        .find(|binaries| fits(binaries.version))
        .cloned()
}

/// Where server binaries usually are, in order of preference and each once.
fn usual_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    folders.retain(|folder| folder.is_absolute() && folder.join("postgres").exists());
    folders.extend(
        versioned("/usr/lib/postgresql", "")
            .into_iter()
            .map(|f| f.join("bin")),
    );
    folders.extend(
        versioned("/usr", "pgsql-")
            .into_iter()
            .map(|f| f.join("bin")),
    );
    folders.push("/usr/local/pgsql/bin".into());
    folders.extend(said(Command::new("pg_config").arg("--bindir")).map(PathBuf::from));

    let mut seen = HashSet::new();
    folders.retain(|folder| {
        let program = folder.join("postgres");
        seen.insert(program.canonicalize().unwrap_or(program))
    });
    folders
}

/// The folders in `parent` named `prefix` and a version number, newest first.
fn versioned(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry
                .file_name()
                .to_str()?
                .strip_prefix(prefix)?
                .parse()
                .ok()?;
            Some((version, entry.path()))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// The major version in, for example, `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(said: &str) -> Option<u32> {
    let number = said.split_once("(PostgreSQL) ")?.1;
    let end = number
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(number.len());
    number[..end].parse().ok()
}

/// What a program says on its standard output, if it succeeds.
fn said(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

fn describe(candidates: &[PathBuf], found: &[Binaries]) -> String {
    let folders: Vec<_> = candidates.iter().map(|f| f.display().to_string()).collect();
    let mut text = folders.join(", ");
    if !found.is_empty() {
        let _ = write!(text, " (found: {})", versions(found));
    }
    text
}

fn versions(found: &[Binaries]) -> String {
    if found.is_empty() {
        return "none".into();
    }
    let versions: Vec<_> = found.iter().map(|b| b.version.to_string()).collect();
    versions.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(versions: &[u32]) -> Vec<Binaries> {
        let binaries = |version: &u32| Binaries {
            folder: format!("/usr/lib/postgresql/{version}/bin").into(),
            version: *version,
        };
        versions.iter().map(binaries).collect()
    }

    #[test]
    fn the_first_folder_with_a_supported_version_wins() {
        let chosen = choose(&installed(&[12, 15, 17]), None);
        assert_eq!(chosen.map(|b| b.version), Some(15));
        assert_eq!(choose(&installed(&[11, 12]), None), None);
    }

    #[test]
    fn data_of_one_version_gets_exactly_that_version() {
        let found = installed(&[17, 15, 13]);
        assert_eq!(choose(&found, Some(13)).map(|b| b.version), Some(13));
        assert_eq!(choose(&found, Some(16)), None);
    }

    #[test]
    fn a_missing_version_is_named_together_with_the_package() {
        let nowhere = Path::new("/nonexistent");
        let error = Binaries::find(Some(nowhere), Some((Path::new("/state/data"), 14)));
        let message = error.unwrap_err().to_string();
        assert!(message.contains("postgresql-14"), "{message}");
        assert!(message.contains("found: none"), "{message}");
    }

    #[test]
    fn versions_are_read_from_what_the_server_says() {
        assert_eq!(
            parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"),
            Some(15)
        );
        assert_eq!(parse_version("postgres (PostgreSQL) 19beta2"), Some(19));
        assert_eq!(parse_version("postgres (PostgreSQL) 9.6.24"), Some(9));
        assert_eq!(parse_version("postgres: command not found"), None);
    }
}
