//! The list of all settings, derived from the clap definition, so that documents
//! can be generated and checked.

use clap::Arg;

use super::file::NOT_IN_FILE;
use super::layers::for_dev;
use super::settings::every_setting;

/// One setting, for documents and checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key in `kindler.toml`; the flag is the same with `-` for `_`.
    pub name: String,
    /// The environment variable.
    pub env: String,
    /// The default of `kindler serve`; empty if there is none.
    pub default: String,
    /// The default of `kindler dev`, where it differs.
    pub dev_default: Option<String>,
    /// One line of documentation.
    pub doc: String,
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
        let key = match setting.name.as_str() {
            NOT_IN_FILE => "(flag `--config`)".to_owned(),
            name => format!("`{name}`"),
        };
        table.push_str(&format!(
            "| {key} | `{}` | {default} | {doc} |\n",
            setting.env
        ));
    }
    table
}

/// A `kindler.toml` in which every setting is commented out, with its default or
/// the kind of its value.
pub fn settings_example() -> String {
    let mut text = String::from(
        "# Settings of Kindler. A flag overrides the environment, the environment overrides\n\
         # this file, and this file overrides the defaults, which are shown as comments.\n",
    );
    let mut heading = None;
    for arg in every_setting().get_arguments() {
        let name = arg.get_id().as_str();
        if name == NOT_IN_FILE {
            continue;
        }
        if arg.get_help_heading() != heading {
            heading = arg.get_help_heading();
            text.push_str(&format!("\n# == {}\n", heading.unwrap_or("Other")));
        }
        let doc = arg.get_help().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("\n# {doc}\n#{name} = {}\n", example(arg)));
    }
    text
}

/// The default in TOML, else the kind of value in quotes.
fn example(arg: &Arg) -> String {
    match shown_default(arg).as_str() {
        "" => {
            let kind = arg.get_value_names().and_then(|names| names.first());
            format!("{:?}", kind.map_or("", |kind| kind.as_str()))
        }
        number if number.parse::<f64>().is_ok() => number.to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_variable_and_a_line_of_documentation() {
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
    fn the_example_has_every_setting_with_its_default() {
        let example = settings_example();
        let lines = |of: &Setting| {
            example
                .lines()
                .filter(|line| line.starts_with(&format!("#{} = ", of.name)))
                .count()
        };
        for setting in settings().iter().filter(|s| s.name != NOT_IN_FILE) {
            assert_eq!(lines(setting), 1, "{setting:?}");
        }
        // Uncommented, the lines with a default form a valid file.
        let uncommented: String = settings()
            .iter()
            .filter(|setting| !setting.default.is_empty())
            .filter_map(|setting| {
                let of = format!("#{} = ", setting.name);
                let line = example.lines().find(|line| line.starts_with(&of))?;
                Some(format!("{}\n", &line[1..]))
            })
            .collect();
        let table: toml::Table = toml::from_str(&uncommented).unwrap();
        assert!(table.len() > 10);
        assert_eq!(table["resync_interval"].as_str(), Some("30s"));
        assert_eq!(table["concurrency"].as_integer(), Some(3));
        let nothing: toml::Table = toml::from_str(&example).unwrap();
        assert!(nothing.is_empty());
    }

    #[test]
    fn dev_checks_more_often_and_uses_the_sandbox() {
        let dev: Vec<_> = settings()
            .into_iter()
            .filter_map(|s| Some((s.name, s.dev_default?)))
            .collect();
        let expected = [
            ("driver", "auto"),
            ("health_interval", "15s"),
            ("health_reprobe", "2s"),
            ("repair_suspension", "10s"),
        ];
        assert_eq!(
            dev,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
