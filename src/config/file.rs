//! Reads `kindler.toml`: one flat table whose keys are the names of the settings.
//!
//! Errors never quote a line of it, because a line may contain a password.

use std::fs;
use std::path::Path;

use clap::Command;
use toml::{Table, Value};

use super::error::ConfigError;
use super::values::{SettingValues, check, nearest};

/// The setting that the file cannot contain, because it names the file.
pub(super) const NOT_IN_FILE: &str = "config";

/// Reads and checks the file.
pub(super) fn read(path: &Path, settings: &Command) -> Result<SettingValues, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::ReadFile {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text, settings)
}

fn parse(path: &Path, text: &str, settings: &Command) -> Result<SettingValues, ConfigError> {
    let table: Table = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        ConfigError::Syntax {
            path: path.to_owned(),
            line: 1 + text.as_bytes()[..start]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count(),
            message: error
                .message()
                .lines()
                .next()
                .unwrap_or("syntax error")
                .to_owned(),
        }
    })?;
    table
        .into_iter()
        .map(|(key, value)| {
            let values = checked(path, &key, value, settings)?;
            Ok((key, values))
        })
        .collect()
}

/// The values of one key, as strings for its flag.
fn checked(
    path: &Path,
    key: &str,
    value: Value,
    settings: &Command,
) -> Result<Vec<String>, ConfigError> {
    let in_file = || {
        settings
            .get_arguments()
            .filter(|arg| arg.get_id() != NOT_IN_FILE)
    };
    let Some(arg) = in_file().find(|arg| arg.get_id() == key) else {
        return Err(ConfigError::UnknownKey {
            path: path.to_owned(),
            key: key.chars().take(80).collect(),
            nearest: nearest(key, in_file().map(|arg| arg.get_id().as_str())),
        });
    };
    let wrong_type = |found| ConfigError::FileType {
        path: path.to_owned(),
        key: key.to_owned(),
        found,
    };
    let values = match value {
        Value::Array(items) => items
            .into_iter()
            .map(|item| text_of(item).map_err(wrong_type))
            .collect::<Result<Vec<_>, _>>()?,
        single => vec![text_of(single).map_err(wrong_type)?],
    };
    check(arg, &values).map_err(|why| ConfigError::FileValue {
        path: path.to_owned(),
        key: key.to_owned(),
        why,
    })?;
    Ok(values)
}

fn text_of(value: Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(flag) => Ok(flag.to_string()),
        Value::Datetime(_) => Err("date"),
        Value::Array(_) => Err("list of lists"),
        Value::Table(_) => Err("table"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::every_setting;
    use super::*;

    fn read(text: &str) -> Result<SettingValues, String> {
        parse(Path::new("kindler.toml"), text, &every_setting()).map_err(|error| error.to_string())
    }

    #[test]
    fn strings_numbers_and_lists_become_flag_values() {
        let values = read("concurrency = 5\nhealth_interval = \"1m\"\npass_env = [\"A\", \"B\"]\n");
        let values = values.unwrap();
        assert_eq!(values["concurrency"], ["5"]);
        assert_eq!(values["health_interval"], ["1m"]);
        assert_eq!(values["pass_env"], ["A", "B"]);
    }

    #[test]
    fn errors_name_the_file_and_the_key() {
        for (text, message) in [
            (
                "resync_intervall = 1",
                "kindler.toml: key \"resync_intervall\" is not known: did you mean resync_interval?",
            ),
            (
                "config = \"x\"",
                "kindler.toml: key \"config\" is not known",
            ),
            (
                "concurrency = 0",
                "kindler.toml: concurrency: concurrency 0 is out of range: use 1 to 256",
            ),
            (
                "resync_interval = 30",
                "kindler.toml: resync_interval: resync_interval \"30\" is not a duration",
            ),
            ("[listen]\nport = 1", "kindler.toml: listen is a table"),
            (
                "listen = \"a\"\nlisten = \"b\"",
                "kindler.toml line 2 is not valid TOML",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn a_password_in_a_broken_line_is_not_repeated() {
        for text in [
            "database_url = \"postgresql://u:hunter2@h/d",
            "database_url = postgresql://u:hunter2@h/d",
            "database_url = [[\"hunter2\"]]",
        ] {
            let error = read(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
