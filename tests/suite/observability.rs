//! What watches Kindler: alerts, runbooks and dashboards, held against the tools
//! that read them, the commands that they name, and a live run.
//!
//! A tool that is not installed skips its test and says so on stderr; with
//! `REQUIRE_TOOLS=1`, as `make test-observability` sets it, it fails.

mod alerts;
mod dashboards;
mod live;
mod promql;
mod rig;
mod runbooks;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::deploy::yaml::document;
use crate::deploy::{files, read, repository};

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

/// A dashboard that is shipped.
struct Dashboard {
    file: String,
    json: Value,
}

/// A panel that shows something.
struct Panel {
    dashboard: String,
    json: Value,
}

/// Every dashboard, by file.
fn dashboards() -> Vec<Dashboard> {
    let folder = repository("dashboards");
    let mut all = Vec::new();
    for file in files(&folder) {
        if file.ends_with(".json") {
            let json = serde_json::from_str(&read(folder.join(&file)))
                .unwrap_or_else(|error| panic!("{file}: {error}"));
            all.push(Dashboard { file, json });
        }
    }
    all
}

impl Dashboard {
    /// Its panels, without the rows that only head them.
    fn panels(&self) -> Vec<Panel> {
        let panels = self.json["panels"].as_array().unwrap().iter();
        panels
            .filter(|panel| panel["type"] != "row")
            .map(|panel| Panel {
                dashboard: self.file.clone(),
                json: panel.clone(),
            })
            .collect()
    }
}

impl Panel {
    fn title(&self) -> String {
        format!("{}: {}", self.dashboard, self.json["title"])
    }

    fn targets(&self) -> Vec<Value> {
        self.json["targets"].as_array().unwrap().clone()
    }

    fn expressions(&self) -> Vec<String> {
        let targets = self.targets();
        let exprs = targets
            .iter()
            .map(|target| target["expr"].as_str().unwrap());
        exprs.map(str::to_owned).collect()
    }
}
