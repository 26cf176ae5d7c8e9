//! Database URLs from files: a file that a setting names, or a systemd credential.
//! The content is never shown, and a password in a flag is rejected.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::values::{SettingValues, flag_value, variable};
use crate::core::database::Database;

/// The URL settings. Each has a setting `…_file` and a systemd credential of the
/// same name in `$CREDENTIALS_DIRECTORY`.
pub(super) const URLS: [&str; 2] = ["database_url", "api_database_url"];

/// Far longer than any URL; a larger file cannot be a URL file.
const MAX_BYTES: u64 = 16 * 1024;

/// The URL from a file or credential, and its path, if there is one and neither flag nor
/// variable sets `url`. `file` has the values of the settings file.
pub(super) fn below_variable(
    url: &'static str,
    args: &[OsString],
    file: &SettingValues,
) -> Result<Option<(String, PathBuf)>, ConfigError> {
    reject_password(url, args)?;
    let outside = |name: &str| {
        flag_value(args, &format!("--{}", flag(name)))
            .or_else(|| variable(&format!("KINDLER_{}", name.to_uppercase())))
    };
    let url_file = format!("{url}_file");
    let both = |by| ConfigError::TwoUrls { url, by };
    let in_file = file.get(&url_file).and_then(|values| values.first());
    let path = match (outside(url), outside(&url_file)) {
        (Some(_), Some(_)) => return Err(both("flags and environment")),
        (Some(_), None) => return Ok(None),
        (None, Some(path)) => Some(path),
        (None, None) if in_file.is_some() && file.contains_key(url) => {
            return Err(both("the settings file"));
        }
        (None, None) => in_file.map(OsString::from),
    };
    let path = path.map(PathBuf::from).or_else(|| credential(url));
    path.map(|path| Ok((read(&path)?, path))).transpose()
}

fn flag(setting: &str) -> String {
    setting.replace('_', "-")
}

/// Every user of the machine can read the arguments of every process.
fn reject_password(url: &str, args: &[OsString]) -> Result<(), ConfigError> {
    let flag = flag(url);
    let given = flag_value(args, &format!("--{flag}"));
    match given.as_deref().and_then(OsStr::to_str) {
        Some(text) if Database::holds_password(text) => Err(ConfigError::PasswordInFlag { flag }),
        _ => Ok(()),
    }
}

/// The credential that systemd's `LoadCredential=NAME:…` passed to this process.
fn credential(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(variable("CREDENTIALS_DIRECTORY")?).join(name);
    path.exists().then_some(path)
}

/// The URL in a file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let rejected = |why| ConfigError::UrlFileContent {
        path: path.to_owned(),
        why,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|source| ConfigError::UrlFile {
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(rejected("is longer than 16 KiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| rejected("is not UTF-8 text"))?;
    match text.trim() {
        "" => Err(rejected("is empty")),
        url if url.contains(char::is_whitespace) => {
            Err(rejected("contains a space or a second line"))
        }
        url => Ok(url.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_text(text: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        fs::write(&path, text).unwrap();
        read(&path).map_err(|error| {
            let message = error.to_string();
            assert!(message.contains(&path.display().to_string()), "{message}");
            message
        })
    }

    #[test]
    fn a_final_line_break_is_not_part_of_the_url() {
        assert_eq!(
            read_text(b"postgresql://u:p@h/d\n").unwrap(),
            "postgresql://u:p@h/d"
        );
    }

    #[test]
    fn a_file_without_a_url_is_rejected_and_not_shown() {
        let long = vec![b'x'; 17 * 1024];
        for (text, reason) in [
            (&b" \n"[..], "is empty"),
            (b"postgresql://u:hunter2@h/d\nhunter2", "a second line"),
            (b"\xff\xfehunter2", "is not UTF-8 text"),
            (&long, "is longer than 16 KiB"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(
                error.contains(reason) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nowhere/url")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the database URL cannot be read from /nowhere/url"
        );
    }
}
