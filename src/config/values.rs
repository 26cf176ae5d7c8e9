//! Values of settings before clap parses them: found among the flags and the variables,
//! and checked by the flag's own parser. This module must not know which source wins.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};

/// Values by setting; they become the defaults of the flags.
pub(super) type SettingValues = BTreeMap<String, Vec<String>>;

/// The value of a flag, before clap parses: clap needs the defaults from the file.
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

/// The value of a variable, without the white space around it; an empty one counts as not
/// set.
pub(super) fn variable(name: &str) -> Option<OsString> {
    let value = env::var_os(name)?;
    let trimmed = value.to_str().map(|text| text.trim().into());
    trimmed.or(Some(value)).filter(|value| !value.is_empty())
}

/// An argument of a command line without the white space around it and, in `--FLAG=VALUE`,
/// around the value.
pub fn trimmed_arg(arg: OsString) -> OsString {
    let Some(text) = arg.to_str() else {
        return arg;
    };
    match text.trim().split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => {
            format!("{}={}", flag.trim_end(), value.trim_start()).into()
        }
        _ => text.trim().into(),
    }
}

/// Checks values with the parser of the flag. Clap's own message is not used,
/// because it names the flag instead of the source.
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
        Some(ContextValue::Strings(words)) => listed(words),
        _ => "another value".to_owned(),
    };
    Err(format!(
        "{} {:?} is not known: use {allowed}",
        arg.get_id(),
        values.join(",")
    ))
}

/// The most similar name.
pub(super) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .min()
        .map(|(_, name)| name.to_owned())
        .unwrap_or_default()
}

/// `a, b or c`.
fn listed(words: &[String]) -> String {
    match words {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        words => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::settings::every_setting;
    use super::{check, flag_value, nearest, trimmed_arg};

    #[test]
    fn the_file_is_found_before_clap_parses() {
        let args = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let value = |line: &str| flag_value(&args(line), "--config");
        assert_eq!(value("kindler list --config a.toml"), Some("a.toml".into()));
        assert_eq!(value("kindler --config=b.toml list"), Some("b.toml".into()));
        assert_eq!(value("kindler list -- --config=b.toml"), None);
        assert_eq!(value("kindler list --configure=b.toml"), None);
    }

    #[test]
    fn white_space_around_arguments_is_trimmed() {
        for (given, expected) in [
            (" 3 ", "3"),
            ("--concurrency= 3\t", "--concurrency=3"),
            (
                " --create-command=/opt/a b.sh ",
                "--create-command=/opt/a b.sh",
            ),
            ("--label", "--label"),
            ("a = b", "a = b"),
            (" ", ""),
        ] {
            assert_eq!(
                trimmed_arg(given.into()),
                OsString::from(expected),
                "{given:?}"
            );
        }
    }

    #[test]
    fn an_invalid_value_names_the_limit() {
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
            "driver \"magic\" is not known: use script, native, sandbox or auto"
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
