//! Monitoring of Kindler: alerts, runbooks and dashboards, checked with the tools that
//! read them, the commands that they name, and a live run.
//!
//! If a tool is not installed, its test is skipped with a message on stderr; with
//! `REQUIRE_TOOLS=1`, as in `make test-observability`, it fails.

mod alerts;
mod dashboards;
mod live;
mod promql;
mod rig;
mod runbooks;

use std::process::Command;

use serde_json::Value;

use crate::deploy::yaml::document;
use crate::deploy::{files, read, repository, required_tool};

const RULES: &str = "dashboards/alerts/kindler.rules.yml";

fn tool(names: &[&str]) -> Option<Command> {
    required_tool(names, "observability")
}

/// An alert and its rule.
struct Alert {
    name: String,
    rule: Value,
}

/// Every shipped alert.
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

/// A shipped dashboard.
struct Dashboard {
    file: String,
    json: Value,
}

/// A panel with data.
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
    /// Its panels, without the rows that are only headings.
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
