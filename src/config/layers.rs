//! The sources below the flags: environment and file. Each value is checked here,
//! so that an error names its source, and then becomes a default in clap.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Arg, Command};

use crate::command::RUN_ID;

use super::error::ConfigError;
use super::settings::{LOG_LEVEL, every_setting};
use super::values::{SettingValues, check, flag_value, nearest, variable};
use super::{file, paths, url_file};

/// Variables that Kindler sets for the commands that it runs. They are not
/// settings, but a command that calls `kindler` passes them on.
pub const COMMAND_ENV: [&str; 10] = [
    "KINDLER_NAME",
    "KINDLER_UID",
    "KINDLER_PROVIDER",
    "KINDLER_GENERATION",
    "KINDLER_TERM",
    "KINDLER_FENCE",
    "KINDLER_ATTEMPT",
    "KINDLER_SUBNET",
    "KINDLER_ACTION",
    RUN_ID,
];

/// The namespace variable of the bash system. Some hosts still set it.
const OLD_SYSTEM_ENV: &str = "KINDLER_NS";

/// The defaults of `kindler dev` that differ: repairs start within seconds.
const DEV_DEFAULTS: [(&str, &str); 4] = [
    ("driver", "auto"),
    ("health_interval", "15s"),
    ("health_reprobe", "2s"),
    ("repair_suspension", "10s"),
];

/// Applies the defaults of `kindler dev` to a command with the daemon's settings.
pub fn for_dev(command: Command) -> Command {
    DEV_DEFAULTS
        .into_iter()
        .fold(command, |command, (name, value)| {
            command.mut_arg(name, |arg| arg.default_value(value))
        })
}

/// Hides the settings that only `kindler dev` uses from the help.
pub fn outside_dev(command: Command) -> Command {
    command.mut_arg("postgres_bin", |arg| arg.hide(true))
}

/// Checks environment and file and makes their values the defaults of the flags
/// of a command and all its subcommands.
///
/// # Errors
/// [`ConfigError`] for an unknown name or an invalid value, with its source.
pub fn layered(command: Command, args: &[OsString]) -> Result<Command, ConfigError> {
    let settings = every_setting();
    check_variables(&settings)?;
    let mut values = SettingValues::new();
    values.insert(
        "state_dir".to_owned(),
        vec![paths::state_dir().display().to_string()],
    );
    if let Some(path) = config_path(args)? {
        values.extend(file::read(&path, &settings)?);
    }
    let mut from_files = SettingValues::new();
    for url in url_file::URLS {
        if let Some((text, _)) = url_file::below_variable(url, args, &values)? {
            from_files.insert(url.to_owned(), vec![text]);
        }
    }
    // DATABASE_URL ranks below KINDLER_DATABASE_URL and above the file.
    let url = env::var("DATABASE_URL").unwrap_or_default();
    if !url.trim().is_empty() {
        values.insert("database_url".to_owned(), vec![url.trim().to_owned()]);
    }
    values.extend(from_files);
    Ok(inject(command, &values))
}

/// The current value of the setting `log`. Flag and environment cannot change
/// while the process runs; the file is read again.
///
/// # Errors
/// [`ConfigError`] for an invalid file.
pub fn log_setting(args: &[OsString]) -> Result<String, ConfigError> {
    // Flag and environment were checked at the start.
    let given = flag_value(args, "--log").or_else(|| variable("KINDLER_LOG"));
    if let Some(given) = given {
        return Ok(given.to_string_lossy().into_owned());
    }
    let in_file = match config_path(args)? {
        Some(path) => file::read(&path, &every_setting())?.remove("log"),
        None => None,
    };
    let level = in_file.and_then(|values| values.into_iter().next());
    Ok(level.unwrap_or_else(|| LOG_LEVEL.to_owned()))
}

/// The file to read: the one that is set, else the first default that exists.
pub(super) fn config_path(args: &[OsString]) -> Result<Option<PathBuf>, ConfigError> {
    let given = flag_value(args, "--config").or_else(|| variable("KINDLER_CONFIG"));
    match given.map(PathBuf::from) {
        Some(path) if path.exists() => Ok(Some(path)),
        Some(path) => Err(ConfigError::NoFile(path)),
        None => Ok(paths::config_files().into_iter().find(|path| path.exists())),
    }
}

/// Checks the names and the values of all `KINDLER_*` variables.
fn check_variables(settings: &Command) -> Result<(), ConfigError> {
    for (name, value) in env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("KINDLER_")) else {
            continue;
        };
        if name == OLD_SYSTEM_ENV || COMMAND_ENV.contains(&name) {
            continue;
        }
        let of_name = |arg: &&Arg| arg.get_env().is_some_and(|env| env == name);
        let Some(arg) = settings.get_arguments().find(of_name) else {
            let known = settings
                .get_arguments()
                .filter_map(|arg| arg.get_env()?.to_str());
            let nearest = nearest(name, known);
            return Err(ConfigError::UnknownVariable {
                name: name.to_owned(),
                nearest,
            });
        };
        // Clap rejects values that are not UTF-8. An empty value counts as not set.
        if let Some(value) = value
            .to_str()
            .map(str::trim)
            .filter(|value| !value.is_empty())
        {
            check(arg, &[value.to_owned()]).map_err(|why| ConfigError::Variable {
                name: name.to_owned(),
                why,
            })?;
        }
    }
    Ok(())
}

/// Makes each value the default of its flag. A variable that clap must not read as it is,
/// because white space surrounds its value, becomes a default too.
fn inject(mut command: Command, values: &SettingValues) -> Command {
    let args: Vec<(String, Option<String>)> = command
        .get_arguments()
        .map(|arg| {
            let value = arg.get_env().and_then(env::var_os);
            let trimmed = value.and_then(|value| trimmed(&value));
            (arg.get_id().to_string(), trimmed)
        })
        .collect();
    for (name, trimmed) in args {
        let variable = trimmed.as_ref().map(|text| vec![text.clone()]);
        let given = variable.filter(|values| !values[0].is_empty());
        if let Some(values) = given.as_ref().or_else(|| values.get(&name)) {
            command = command.mut_arg(&name, |arg| arg.default_values(values.clone()));
        }
        if trimmed.is_some() {
            command = command.mut_arg(&name, |arg| arg.env(None::<&str>));
        }
    }
    command.mut_subcommands(|subcommand| inject(subcommand, values))
}

/// The value of a variable without the white space around it, if there is some or nothing
/// else.
fn trimmed(value: &OsStr) -> Option<String> {
    let text = value.to_str()?;
    let trimmed = text.trim();
    (trimmed.is_empty() || trimmed.len() < text.len()).then(|| trimmed.to_owned())
}
