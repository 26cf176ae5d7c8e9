//! What watches Kindler: alerts, runbooks and dashboards, held against the tools
//! that read them, the commands that they name, and a live run.
//!
//! A tool that is not installed skips its test and says so on stderr; with
//! `REQUIRE_TOOLS=1`, as `make test-observability` sets it, it fails.

mod alerts;
mod runbooks;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::deploy::repository;
use crate::deploy::yaml::document;

const RULES: &str = "dashboards/alerts/kindler.rules.yml";

/// A program that is there, by the first of its names that is, or `None` with
/// a word on stderr.
fn tool(names: &[&str]) -> Option<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let places = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let there = places.into_iter().find(|place| place.is_file());
    if there.is_none() {
        let why = format!("{} is not installed", names[0]);
        assert!(
            std::env::var_os("REQUIRE_TOOLS").is_none(),
            "{why}; `sh deploy/setup.sh observability` installs it"
        );
        crate::deploy::told_as_skipped(&why);
    }
    there.map(Command::new)
}

/// An alert as its rule has it.
struct Alert {
    name: String,
    rule: Value,
}

/// Every alert that is shipped.
fn alerts() -> Vec<Alert> {
    let rules = document(&repository(RULES));
    let groups = rules["groups"].as_array().unwrap().iter();
    let all: Vec<_> = groups
        .flat_map(|group| group["rules"].as_array().unwrap())
        .map(|rule| Alert {
            name: rule["alert"].as_str().unwrap().to_owned(),
            rule: rule.clone(),
        })
        .collect();
    assert!(all.len() > 10, "{}", all.len());
    all
}
