//! Where each setting comes from, for `kindler doctor` and for comparing replicas. Values of
//! database URLs are not shown, because they may contain a password.

use std::env;
use std::ffi::OsString;

use clap::Arg;

use super::error::ConfigError;
use super::layers::{config_path, for_dev};
use super::settings::every_setting;
use super::values::{SettingValues, flag_value, variable};
use super::{file, paths, url_file};
use crate::store::{ExplainedSetting, ExplainedSettings};

/// What [`explained`] shows instead of a value.
const HIDDEN: &str = "(not shown)";

/// What `from` says of a default.
pub const DEFAULT: &str = "default";

/// Every setting in effect for these arguments, in this environment.
///
/// # Errors
/// [`ConfigError`] for a file that cannot be read or is invalid.
pub fn explained(args: &[OsString]) -> Result<ExplainedSettings, ConfigError> {
    let mut settings = every_setting();
    if args.iter().any(|arg| arg == "dev") {
        settings = for_dev(settings);
    }
    let path = config_path(args)?;
    let in_file = match &path {
        Some(path) => file::read(path, &every_setting())?,
        None => SettingValues::new(),
    };
    let mut all = ExplainedSettings::new();
    for arg in settings.get_arguments() {
        let name = arg.get_id().as_str();
        let from_file = || {
            let values = in_file.get(name)?;
            let path = path.as_ref()?;
            Some((values.join(","), path.display().to_string()))
        };
        let found = match given_flag(arg, args).or_else(|| given_variable(arg)) {
            Some(found) => Some(found),
            None => from_url(name, args, &in_file)?
                .or_else(from_file)
                .or_else(|| default(arg)),
        };
        if let Some((value, from)) = found {
            // Everything that may be a URL, but not the name of its file.
            let secret = name.ends_with("database_url");
            let value = if secret { HIDDEN.to_owned() } else { value };
            all.insert(name.to_owned(), ExplainedSetting { value, from });
        }
    }
    Ok(all)
}

type Found = (String, String);

fn given_flag(arg: &Arg, args: &[OsString]) -> Option<Found> {
    let flag = format!("--{}", arg.get_long()?);
    let alone = arg
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0);
    let value = match alone && args.iter().any(|arg| *arg == *flag) {
        true => "true".to_owned(),
        false => flag_value(args, &flag)?.to_string_lossy().into_owned(),
    };
    Some((value, format!("flag {flag}")))
}

fn given_variable(arg: &Arg) -> Option<Found> {
    let name = arg.get_env()?.to_str()?;
    let value = variable(name)?.to_string_lossy().into_owned();
    Some((value, format!("variable {name}")))
}

/// Of a database URL: a file, a credential, or the variable of other tools.
fn from_url(
    name: &str,
    args: &[OsString],
    in_file: &SettingValues,
) -> Result<Option<Found>, ConfigError> {
    let Some(url) = url_file::URLS.into_iter().find(|url| *url == name) else {
        return Ok(None);
    };
    if let Some((text, path)) = url_file::below_variable(url, args, in_file)? {
        return Ok(Some((text, path.display().to_string())));
    }
    let other = env::var("DATABASE_URL").unwrap_or_default();
    let used = name == "database_url" && !other.trim().is_empty();
    Ok(used.then(|| (other, "variable DATABASE_URL".to_owned())))
}

fn default(arg: &Arg) -> Option<Found> {
    let values: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    let value = match (arg.get_id().as_str(), values.is_empty()) {
        ("state_dir", true) => paths::state_dir().display().to_string(),
        (_, true) => return None,
        _ => values.join(","),
    };
    Some((value, DEFAULT.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_names_its_source_and_no_url_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kindler.toml");
        std::fs::write(&file, "resync_interval = \"7s\"\n").unwrap();
        let config = format!("--config={}", file.display());
        let args = [
            "kindler",
            "serve",
            &config,
            "--concurrency",
            "5",
            "--database-url=postgresql://h/d",
        ];
        let all = explained(&args.map(OsString::from)).unwrap();
        let of = |name: &str| {
            let setting = &all[name];
            (setting.value.as_str(), setting.from.clone())
        };
        assert_eq!(of("concurrency"), ("5", "flag --concurrency".to_owned()));
        assert_eq!(of("resync_interval"), ("7s", file.display().to_string()));
        assert_eq!(of("lease_ttl"), ("15s", DEFAULT.to_owned()));
        assert_eq!(of("database_url").0, HIDDEN);
        assert_eq!(of("config").0, file.to_str().unwrap());
    }
}
