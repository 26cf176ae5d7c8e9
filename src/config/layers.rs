//! The layers below the flags: what the environment and the file say, checked
//! one by one so that an error names its place, then handed to clap.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};

use crate::command::RUN_MARK;

use super::catalogue::every_setting;
use super::error::ConfigError;
use super::settings::LOG_LEVEL;
use super::{file, paths, url_file};

/// What Kindler passes to the commands that it runs; a command that calls
/// `kindler` has them set.
pub const COMMAND_ENV: [&str; 8] = [
    "KINDLER_NAME",
    "KINDLER_PROVIDER",
    "KINDLER_GENERATION",
    "KINDLER_FENCE",
    "KINDLER_ATTEMPT",
    "KINDLER_SUBNET",
    "KINDLER_ACTION",
    RUN_MARK,
];

/// The namespace variable of the bash system, which hosts still set.
const OLD_SYSTEM_ENV: &str = "KINDLER_NS";

/// Where `kindler dev` differs: one wants to see a repair while watching.
const DEV_DEFAULTS: [(&str, &str); 3] = [
    ("driver", "sandbox"),
    ("health_interval", "15s"),
    ("health_reprobe", "2s"),
];

/// Values by setting, to become the defaults of the flags.
pub(super) type Values = BTreeMap<String, Vec<String>>;

/// Gives a command with the daemon's settings the defaults of `kindler dev`.
pub fn for_dev(command: Command) -> Command {
    DEV_DEFAULTS
        .into_iter()
        .fold(command, |command, (name, value)| {
            command.mut_arg(name, |arg| arg.default_value(value))
        })
}

/// Leaves out of the help what only `kindler dev` uses.
pub fn outside_dev(command: Command) -> Command {
    command.mut_arg("postgres_bin", |arg| arg.hide(true))
}

/// Puts environment and file below the flags of a command and of all its
/// subcommands, after checking every value of theirs.
///
/// # Errors
/// [`ConfigError`] for an unknown name or a refused value, naming its place.
pub fn layered(command: Command, args: &[OsString]) -> Result<Command, ConfigError> {
    let settings = every_setting();
    check_variables(&settings)?;
    let mut values = Values::new();
    values.insert(
        "state_dir".to_owned(),
        vec![paths::state_dir().display().to_string()],
    );
    if let Some(path) = config_path(args)? {
        values.extend(file::read(&path, &settings)?);
    }
    let mut from_files = Values::new();
    for url in url_file::URLS {
        if let Some(text) = url_file::below_variable(url, args, &values)? {
            from_files.insert(url.to_owned(), vec![text]);
        }
    }
    // The common name of the variable: below our own, above the file.
    if let Some(url) = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
        values.insert("database_url".to_owned(), vec![url]);
    }
    values.extend(from_files);
    Ok(inject(command, &values))
}

/// The setting `log` as it is now: the flag and the environment are as they
/// were at the start, the file is read anew.
///
/// # Errors
/// [`ConfigError`] for a file that cannot be used, naming its place.
pub fn log_setting(args: &[OsString]) -> Result<String, ConfigError> {
    // Both were checked at the start.
    let given = flag_value(args, "--log").or_else(|| env::var_os("KINDLER_LOG"));
    if let Some(given) = given.filter(|given| !given.is_empty()) {
        return Ok(given.to_string_lossy().into_owned());
    }
    let in_file = match config_path(args)? {
        Some(path) => file::read(&path, &every_setting())?.remove("log"),
        None => None,
    };
    let told = in_file.and_then(|values| values.into_iter().next());
    Ok(told.unwrap_or_else(|| LOG_LEVEL.to_owned()))
}

/// The file to read: the one that is asked for, else the first that exists.
fn config_path(args: &[OsString]) -> Result<Option<PathBuf>, ConfigError> {
    let asked = flag_value(args, "--config")
        .or_else(|| env::var_os("KINDLER_CONFIG").filter(|path| !path.is_empty()));
    match asked.map(PathBuf::from) {
        Some(path) if path.exists() => Ok(Some(path)),
        Some(path) => Err(ConfigError::NoFile(path)),
        None => Ok(paths::config_files().into_iter().find(|path| path.exists())),
    }
}

/// The value of a flag, found before the real parse, which needs the file.
pub(super) fn flag_value(args: &[OsString], flag: &str) -> Option<OsString> {
    let mut args = args.iter().take_while(|arg| *arg != "--");
    while let Some(arg) = args.next() {
        if arg == flag {
            return args.next().cloned();
        }
        let value = arg
            .to_str()
            .and_then(|arg| arg.strip_prefix(flag)?.strip_prefix('='));
        if let Some(value) = value {
            return Some(value.into());
        }
    }
    None
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
        let variable = |arg: &&Arg| arg.get_env().is_some_and(|env| env == name);
        let Some(arg) = settings.get_arguments().find(variable) else {
            let known = settings
                .get_arguments()
                .filter_map(|arg| arg.get_env()?.to_str());
            let nearest = nearest(name, known);
            return Err(ConfigError::UnknownVariable {
                name: name.to_owned(),
                nearest,
            });
        };
        // What is not text is refused by clap; what is empty counts as not set.
        if let Some(value) = value.to_str().filter(|value| !value.is_empty()) {
            check(arg, &[value.to_owned()]).map_err(|why| ConfigError::Variable {
                name: name.to_owned(),
                why,
            })?;
        }
    }
    Ok(())
}

/// Checks values as the flag itself would, without letting clap word the
/// error, since clap would blame the flag.
pub(super) fn check(arg: &Arg, values: &[String]) -> Result<(), String> {
    let flag = arg.get_long().unwrap_or_default();
    let alone = arg
        .clone()
        .env(None::<&str>)
        .default_value(None::<&str>)
        .global(false);
    let command = Command::default().no_binary_name(true).arg(alone);
    let given = values.iter().map(|value| format!("--{flag}={value}"));
    let Err(error) = command.try_get_matches_from(given) else {
        return Ok(());
    };
    if let Some(source) = error.source() {
        return Err(source.to_string());
    }
    let allowed = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(words)) => words.join(" or "),
        _ => "another value".to_owned(),
    };
    Err(format!(
        "{} {:?} is not known: use {allowed}",
        arg.get_id(),
        values.join(",")
    ))
}

/// The name that is most like a given one.
pub(super) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .min()
        .map(|(_, name)| name.to_owned())
        .unwrap_or_default()
}

/// Makes values the defaults of the flags that they belong to.
fn inject(mut command: Command, values: &Values) -> Command {
    let args: Vec<(String, bool)> = command
        .get_arguments()
        .map(|arg| {
            let variable = arg.get_env().and_then(env::var_os);
            (
                arg.get_id().to_string(),
                variable.is_some_and(|value| value.is_empty()),
            )
        })
        .collect();
    for (name, emptied) in args {
        if let Some(values) = values.get(&name) {
            command = command.mut_arg(&name, |arg| arg.default_values(values.clone()));
        }
        if emptied {
            command = command.mut_arg(&name, |arg| arg.env(None::<&str>));
        }
    }
    command.mut_subcommands(|subcommand| inject(subcommand, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_found_before_the_real_parse() {
        let args = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let value = |line: &str| flag_value(&args(line), "--config");
        assert_eq!(value("kindler list --config a.toml"), Some("a.toml".into()));
        assert_eq!(value("kindler --config=b.toml list"), Some("b.toml".into()));
        assert_eq!(value("kindler list -- --config=b.toml"), None);
        assert_eq!(value("kindler list --configure=b.toml"), None);
    }

    #[test]
    fn a_value_is_refused_in_the_words_of_its_limit() {
        let settings = every_setting();
        let check = |name: &str, value: &str| {
            let arg = settings
                .get_arguments()
                .find(|arg| arg.get_id() == name)
                .unwrap();
            check(arg, &[value.to_owned()])
        };
        assert_eq!(check("concurrency", "3"), Ok(()));
        assert_eq!(check("pass_env", "A,B_*"), Ok(()));
        assert_eq!(
            check("concurrency", "0").unwrap_err(),
            "concurrency 0 is out of range: use 1 to 256"
        );
        assert_eq!(
            check("driver", "magic").unwrap_err(),
            "driver \"magic\" is not known: use script or sandbox"
        );
    }

    #[test]
    fn the_nearest_name_is_found() {
        let known = ["resync_interval", "listen", "lease_ttl"];
        assert_eq!(
            nearest("resync_intervall", known.into_iter()),
            "resync_interval"
        );
        assert_eq!(nearest("lsiten", known.into_iter()), "listen");
    }
}
