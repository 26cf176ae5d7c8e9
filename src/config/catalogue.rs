//! The list of all settings, told by the clap definition itself, so that no
//! document needs to repeat it unchecked.

use clap::{Arg, Args, Command};

use super::layers::for_dev;
use super::settings::{ConnectionArgs, DaemonArgs};

/// One setting, for documents and checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key in `kindler.toml`; the flag is the same with `-` for `_`.
    pub name: String,
    /// The environment variable.
    pub env: String,
    /// The default of `kindler serve`; empty if there is none.
    pub default: String,
    /// The default of `kindler dev`, where it is another.
    pub dev_default: Option<String>,
    /// One line.
    pub doc: String,
}

/// A command with every setting and nothing else.
pub(super) fn every_setting() -> Command {
    DaemonArgs::augment_args(ConnectionArgs::augment_args(Command::new("settings")))
}

/// All settings, in the order of `--help`.
pub fn settings() -> Vec<Setting> {
    let dev = for_dev(every_setting());
    every_setting()
        .get_arguments()
        .filter_map(|arg| {
            let default = shown_default(arg);
            let dev_default = dev
                .get_arguments()
                .find(|other| other.get_id() == arg.get_id())
                .map(shown_default)
                .filter(|other| *other != default);
            Some(Setting {
                name: arg.get_id().to_string(),
                env: arg.get_env()?.to_str()?.to_owned(),
                default,
                dev_default,
                doc: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            })
        })
        .collect()
}

fn shown_default(arg: &Arg) -> String {
    let values: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|v| v.to_string_lossy())
        .collect();
    values.join(",")
}

/// The settings as a Markdown table, for the README.
pub fn settings_table() -> String {
    let mut table = String::from("| key | environment | default | meaning |\n|---|---|---|---|\n");
    for setting in settings() {
        let default = match (setting.default.as_str(), setting.dev_default) {
            ("", None) => String::new(),
            (default, None) => format!("`{default}`"),
            (default, Some(dev)) => format!("`{default}`, dev `{dev}`"),
        };
        let doc = setting.doc.replace('|', "\\|");
        table.push_str(&format!(
            "| `{}` | `{}` | {default} | {doc} |\n",
            setting.name, setting.env
        ));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_variable_of_its_name_and_a_line_of_documentation() {
        let all = settings();
        assert_eq!(all.len(), every_setting().get_arguments().count());
        for setting in &all {
            assert_eq!(
                setting.env,
                format!("KINDLER_{}", setting.name.to_uppercase())
            );
            assert!(
                setting.doc.len() > 10 && !setting.doc.contains('\n'),
                "{setting:?}"
            );
        }
    }

    #[test]
    fn dev_looks_more_often_and_plays_in_the_sandbox() {
        let dev: Vec<_> = settings()
            .into_iter()
            .filter_map(|s| Some((s.name, s.dev_default?)))
            .collect();
        let expected = [
            ("driver", "sandbox"),
            ("health_interval", "15s"),
            ("health_reprobe", "2s"),
        ];
        assert_eq!(
            dev,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
