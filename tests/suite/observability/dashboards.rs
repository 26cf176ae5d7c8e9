//! The dashboards follow the rules of Grafana's dashboard-linter (`--strict`), which
//! cannot be used here, and the project's own rules.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::promql::{RATE_INTERVAL, Selector, selectors};
use super::{Dashboard, dashboards, tool};
use crate::deploy::yaml::document;
use crate::deploy::{read, repository, succeeds};

/// The units of Grafana that the dashboards use.
const UNITS: [&str; 12] = [
    "none",
    "short",
    "s",
    "ops",
    "opm",
    "cpm",
    "reqps",
    "percentunit",
    "bytes",
    "bool",
    "bool_yes_no",
    "dateTimeAsIso",
];
const KINDS: [&str; 6] = [
    "stat",
    "timeseries",
    "state-timeline",
    "bargauge",
    "table",
    "heatmap",
];

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn dashboards_use_the_classic_schema_and_are_read_only() {
    let all = dashboards();
    let uids: Vec<_> = all.iter().map(|d| text(&d.json, "uid")).collect();
    assert_eq!(
        uids,
        ["kindler-cluster", "kindler-fleet", "kindler-reconciler"]
    );
    for Dashboard { file, json } in &all {
        assert_eq!(json["id"], Value::Null, "{file}");
        assert_eq!(json["schemaVersion"], 42, "{file}");
        assert_eq!(json["editable"], false, "{file}");
        assert_eq!(json["tags"], serde_json::json!(["kindler"]), "{file}");
        assert!(text(json, "title").starts_with("Kindler / "), "{file}");
        assert!(text(json, "description").ends_with('.'), "{file}");
        // Dashboards link to each other, keeping time and variables, and to the
        // runbooks.
        let links: Vec<_> = json["links"].as_array().unwrap().iter().collect();
        for other in uids.iter().filter(|uid| **uid != json["uid"]) {
            let link = links
                .iter()
                .find(|link| link["url"] == format!("/d/{other}"));
            let link = link.unwrap_or_else(|| panic!("{file}: no link to {other}"));
            assert!(link["includeVars"] == true && link["keepTime"] == true);
        }
        let runbooks = |link: &&Value| text(link, "url").ends_with("/docs/runbooks/README.md");
        assert!(links.iter().any(&runbooks), "{file}");
    }
}

#[test]
fn dashboards_have_the_required_variables() {
    for Dashboard { file, json } in &dashboards() {
        let list = json["templating"]["list"].as_array().unwrap();
        let names: Vec<_> = list.iter().map(|v| text(v, "name")).collect();
        // The reconciler's dashboard does not select one cluster.
        let expected: &[&str] = match file.as_str() {
            "reconciler.json" => &["datasource", "job", "instance"],
            _ => &["datasource", "job", "instance", "name"],
        };
        assert_eq!(names, expected, "{file}");
        assert_eq!(list[0]["type"], "datasource");
        assert_eq!(list[0]["query"], "prometheus");
        assert_eq!(list[0]["label"], "Data source");
        for variable in &list[1..] {
            let name = text(variable, "name");
            assert_eq!(variable["type"], "query", "{file}: {name}");
            assert_eq!(variable["datasource"]["uid"], "${datasource}", "{name}");
            let mut label = name.to_owned();
            label[..1].make_ascii_uppercase();
            assert_eq!(text(variable, "label"), label);
            // Refreshed at every change of the time range.
            assert_eq!(variable["refresh"], 2, "{file}: {name}");
            let query = text(variable, "query");
            assert!(query.starts_with("label_values(kindler_"), "{query}");
            assert!(query.ends_with(&format!(", {name})")), "{query}");
            if (file.as_str(), name) != ("cluster.json", "name") {
                assert_eq!(variable["multi"], true, "{file}: {name}");
                assert_eq!(variable["includeAll"], true, "{file}: {name}");
                assert_eq!(variable["allValue"], ".+", "{file}: {name}");
            }
        }
    }
}

#[test]
fn panels_have_a_question_a_description_and_a_unit() {
    for dashboard in &dashboards() {
        let file = &dashboard.file;
        let mut ids = BTreeSet::new();
        let mut titles = BTreeSet::new();
        for panel in dashboard.json["panels"].as_array().unwrap() {
            let title = text(panel, "title");
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: {title}");
            assert!(titles.insert(title.to_owned()), "{file}: {title} twice");
            if panel["type"] == "row" {
                continue;
            }
            let at = format!("{file}: {title}");
            assert!(KINDS.contains(&text(panel, "type")), "{at}");
            assert!(title.ends_with('?') && title.len() < 50, "{at}");
            let description = text(panel, "description");
            assert!(description.ends_with('.'), "{at}: {description}");
            assert!(
                (60..300).contains(&description.len()),
                "{at}: {description}"
            );
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{at}");
            assert_eq!(panel["datasource"]["type"], "prometheus", "{at}");
            let unit = text(&panel["fieldConfig"]["defaults"], "unit");
            assert!(UNITS.contains(&unit), "{at}: {unit}");
            // A number without a unit has a text for each of its values.
            let mappings = &panel["fieldConfig"]["defaults"]["mappings"];
            let named = mappings.as_array().is_some_and(|list| !list.is_empty())
                || panel["options"]["textMode"] == "name"
                || panel["type"] == "table";
            assert!(unit != "none" || named, "{at}");
        }
    }
}

/// Grafana reduces a range to the last value of each series, also of series that ended
/// hours ago: an outdated reason would look like the present one. And missing data must
/// not look like good news.
#[test]
fn panels_of_present_values_use_instant_queries() {
    let mut count = 0;
    for panel in dashboards().iter().flat_map(Dashboard::panels) {
        let defaults = &panel.json["fieldConfig"]["defaults"];
        assert_eq!(defaults["noValue"], Value::Null, "{}", panel.title());
        let kind = text(&panel.json, "type");
        if !["stat", "bargauge", "table"].contains(&kind) {
            continue;
        }
        count += 1;
        for target in panel.targets() {
            assert_eq!(target["instant"], true, "{}", panel.title());
            assert_eq!(target["range"], false, "{}", panel.title());
        }
        if kind == "stat" {
            // A value of one moment has no graph.
            assert_eq!(panel.json["options"]["graphMode"], "none");
        }
    }
    assert!(count > 20, "{count}");
}

/// Settings, runbooks and commands in descriptions exist.
#[test]
fn names_in_descriptions_exist() {
    let settings: Vec<_> = kindler::config::settings()
        .into_iter()
        .map(|setting| setting.env)
        .collect();
    for panel in dashboards().iter().flat_map(Dashboard::panels) {
        let description = text(&panel.json, "description");
        for word in description.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("KINDLER_") {
                assert!(settings.iter().any(|name| name == word), "{word}");
            }
        }
        for quoted in description.split('`').skip(1).step_by(2) {
            let arguments = quoted
                .strip_prefix("kindler ")
                .unwrap_or_else(|| panic!("{quoted}"));
            let words: Vec<_> = arguments
                .split(' ')
                .map(|w| w.replace("NAME", "dev"))
                .collect();
            crate::deploy::assert_is_a_command(&words);
        }
        if let Some((_, rest)) = description.split_once("runbook") {
            let names = rest
                .trim_start_matches('s')
                .split([')', '.', ';'])
                .next()
                .unwrap();
            for name in names.trim().split(", ") {
                let name = name.rsplit(' ').next().unwrap();
                let page = format!("docs/runbooks/{}.md", name.to_lowercase());
                assert!(repository(&page).is_file(), "{}: {page}", panel.title());
            }
        }
    }
}

#[test]
fn panels_fill_24_columns_without_overlaps() {
    for dashboard in &dashboards() {
        let mut taken = BTreeMap::new();
        let mut bottom = 0;
        for panel in dashboard.json["panels"].as_array().unwrap() {
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            let title = text(panel, "title");
            assert!(
                at("x") + at("w") <= 24 && at("w") > 0 && at("h") > 0,
                "{title}"
            );
            for y in at("y")..at("y") + at("h") {
                for x in at("x")..at("x") + at("w") {
                    let other = taken.insert((x, y), title);
                    assert_eq!(other, None, "{}: {title} at {x},{y}", dashboard.file);
                }
            }
            bottom = bottom.max(at("y") + at("h"));
        }
        // Panels leave no holes, except at the end of a row with panels of unequal
        // height.
        let full = usize::try_from(bottom * 24).unwrap();
        assert_eq!(taken.len(), full, "{}", dashboard.file);
    }
}

#[test]
fn expressions_select_by_job_and_rate_over_the_interval() {
    for panel in dashboards().iter().flat_map(Dashboard::panels) {
        let targets = panel.targets();
        assert!(!targets.is_empty(), "{}", panel.title());
        let mut letters = BTreeSet::new();
        for target in &targets {
            assert!(letters.insert(text(target, "refId").to_owned()));
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            let expr = text(target, "expr");
            let selected = selectors(expr);
            assert!(!selected.is_empty(), "{expr}");
            for Selector {
                metric,
                matchers,
                range,
                function,
            } in selected
            {
                assert_eq!(
                    matchers[..2],
                    [r#"job=~"$job""#, r#"instance=~"$instance""#],
                    "{}: {expr}",
                    panel.title()
                );
                assert!(range.is_none_or(|range| range == RATE_INTERVAL), "{expr}");
                let rated = ["rate", "increase"].contains(&function);
                assert!(
                    rated || !metric.ends_with("_total"),
                    "a counter as it is: {expr}"
                );
            }
        }
    }
}

#[test]
fn promtool_accepts_every_expression() {
    if tool(&["promtool"]).is_none() {
        return;
    }
    let all = dashboards();
    let exprs = all
        .iter()
        .flat_map(Dashboard::panels)
        .flat_map(|panel| panel.expressions());
    let rules: Vec<_> = exprs
        .enumerate()
        .map(|(number, expr)| {
            let expr = super::promql::with_variables(&expr, "1m", ".+");
            serde_json::json!({"record": format!("expr:{number}"), "expr": expr})
        })
        .collect();
    assert!(rules.len() > 50, "{}", rules.len());
    let file = tempfile::NamedTempFile::new().unwrap();
    let groups = serde_json::json!({"groups": [{"name": "panels", "rules": rules}]});
    std::fs::write(file.path(), groups.to_string()).unwrap();
    let mut promtool = tool(&["promtool"]).unwrap();
    succeeds(promtool.args(["check", "rules"]).arg(file.path()));
}

#[test]
fn grafana_provisions_the_dashboards_read_only() {
    let provider = document(&repository("dashboards/provisioning/dashboards.yaml"));
    let provider = &provider["providers"][0];
    assert_eq!(provider["allowUiUpdates"], false);
    assert_eq!(provider["folder"], "Kindler");
    assert_eq!(provider["type"], "file");
    let datasource = document(&repository("dashboards/provisioning/datasource.yaml"));
    assert_eq!(datasource["datasources"][0]["type"], "prometheus");
    // The JSON is formatted for readable diffs.
    for Dashboard { file, json } in &dashboards() {
        let kept = read(repository("dashboards").join(file));
        assert!(
            kept.ends_with("}\n") && kept.lines().count() > 500,
            "{file}"
        );
        assert!(json["panels"].is_array());
    }
}

/// The text of the panel "Why?" for different results of the scrape.
#[test]
fn the_cluster_dashboard_shows_the_reason_or_nothing() {
    let Some(mut promtool) = tool(&["promtool"]) else {
        return;
    };
    let all = dashboards();
    let mut panels = all.iter().flat_map(Dashboard::panels);
    let why = panels.find(|panel| text(&panel.json, "title") == "Why?");
    let expr = super::promql::with_variables(&why.unwrap().expressions()[0], "1m", "dev");
    let of = |metric: &str, labels: &str, values: &str| {
        let series = format!(r#"{metric}{{job="kindler",instance="a:8080",name="dev"{labels}}}"#);
        serde_json::json!({"series": series, "values": values})
    };
    let info = || of("kindler_cluster_info", "", "1x9");
    let is = |kind: &str, status: &str| {
        let labels = format!(r#",type="{kind}",status="{status}""#);
        of("kindler_cluster_status_condition", &labels, "1x9")
    };
    let failed_until = |values: &str| {
        of(
            "kindler_cluster_status_reason",
            r#",reason="CreateFailed""#,
            values,
        )
    };
    let unknown = || is("Ready", "unknown");
    let cases = [
        (
            vec![info(), is("Progressing", "true"), failed_until("1x9")],
            Some("CreateFailed"),
        ),
        (vec![info(), failed_until("1x3 stale")], Some("as declared")),
        (
            vec![
                info(),
                unknown(),
                of("kindler_cluster_spec_paused", "", "1x9"),
            ],
            Some("paused"),
        ),
        (vec![info(), is("Held", "true")], Some("deferred")),
        (
            vec![info(), unknown(), is("Progressing", "true")],
            Some("in progress"),
        ),
        (vec![info(), unknown()], Some("state unknown")),
        (vec![of("kindler_cluster_info", "", "1x3 stale")], None),
    ];
    let groups: Vec<_> = cases
        .into_iter()
        .map(|(series, says)| {
            let samples = says.map(
                |word| serde_json::json!({"labels": format!("{{reason={word:?}}}"), "value": 1}),
            );
            let samples: Vec<_> = samples.into_iter().collect();
            serde_json::json!({
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [{"expr": expr, "eval_time": "6m", "exp_samples": samples}],
            })
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        serde_json::json!({"tests": groups}).to_string(),
    )
    .unwrap();
    succeeds(promtool.args(["test", "rules"]).arg(file.path()));
}
