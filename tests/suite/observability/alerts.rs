//! The rules, their unit tests, and the inhibitions of Alertmanager.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{Alert, RULES, alerts, tool};
use crate::deploy::yaml::{document, texts};
use crate::deploy::{printed, repository, succeeds};

/// The required alerts, with their delay and severity.
const REQUIRED_ALERTS: [(&str, &str, &str); 12] = [
    ("KindlerDown", "5m", "critical"),
    ("DatabaseDown", "2m", "critical"),
    ("ListenDisconnected", "10m", "warning"),
    ("ClusterFailed", "10m", "warning"),
    ("ClusterStuckCreating", "20m", "warning"),
    ("ClusterStuckDeleting", "20m", "warning"),
    ("ReconcileStale", "5m", "critical"),
    ("ReconcileErrorRatio", "15m", "warning"),
    ("QueueBacklog", "15m", "warning"),
    ("WorkerStuck", "15m", "warning"),
    ("RetriesExhausted", "15m", "warning"),
    ("DriftDetected", "15m", "warning"),
];

fn unit_test(alert: &str) -> String {
    format!("{}.yml", alert.to_lowercase())
}

#[test]
fn promtool_accepts_the_rules_and_their_unit_tests() {
    let Some(mut promtool) = tool(&["promtool"]) else {
        return;
    };
    succeeds(promtool.args(["check", "rules"]).arg(repository(RULES)));
    let mut promtool = tool(&["promtool"]).unwrap();
    promtool.args(["test", "rules"]);
    for alert in alerts() {
        promtool.arg(repository("dashboards/alerts/tests").join(unit_test(&alert.name)));
    }
    succeeds(&mut promtool);
}

/// Each unit test must depend on its rule.
#[test]
fn every_unit_test_fails_on_a_wrong_rule() {
    if tool(&["promtool"]).is_none() {
        return;
    }
    let shipped = document(&repository(RULES));
    for alert in alerts() {
        for (what, key, value) in [
            ("never fires", "expr", "vector(1) > 2"),
            ("always fires", "expr", "absent(nothing_of_the_kind)"),
            ("fires too late", "for", "3h"),
        ] {
            let mut wrong = shipped.clone();
            for group in wrong["groups"].as_array_mut().unwrap() {
                for rule in group["rules"].as_array_mut().unwrap() {
                    if rule["alert"] == alert.name.as_str() {
                        rule[key] = value.into();
                    }
                }
            }
            let folder = TempDir::new().unwrap();
            // JSON is valid YAML.
            fs::write(folder.path().join("kindler.rules.yml"), wrong.to_string()).unwrap();
            fs::create_dir(folder.path().join("tests")).unwrap();
            let test = folder.path().join("tests").join(unit_test(&alert.name));
            let kept = repository("dashboards/alerts/tests").join(unit_test(&alert.name));
            fs::copy(kept, &test).unwrap();
            let mut promtool = tool(&["promtool"]).unwrap();
            let output = promtool.args(["test", "rules"]).arg(&test).output();
            let output = output.unwrap();
            assert!(
                !output.status.success() && printed(&output).contains("FAILED"),
                "{} passes its unit test when it {what}: {}",
                alert.name,
                printed(&output)
            );
        }
    }
}

#[test]
fn every_alert_has_unit_tests_of_each_kind() {
    let mut expected = BTreeSet::new();
    for alert in alerts() {
        let file = unit_test(&alert.name);
        let test = document(&repository("dashboards/alerts/tests").join(&file));
        assert_eq!(texts(&test["rule_files"]), ["../kindler.rules.yml"]);
        let groups = test["tests"].as_array().unwrap();
        let of_kind = |kind: &str| -> Vec<&Value> {
            let mine = |group: &&Value| group["name"].as_str().unwrap().starts_with(kind);
            let found: Vec<_> = groups.iter().filter(mine).collect();
            assert!(!found.is_empty(), "{file} has no test that it {kind}");
            found
        };
        for group in of_kind("fires") {
            assert!(fired(group, &alert), "{file}: {}", group["name"]);
        }
        for group in of_kind("stays silent") {
            assert!(!fired(group, &alert), "{file}: {}", group["name"]);
        }
        for group in of_kind("survives gaps") {
            let series = group["input_series"].as_array().unwrap().iter();
            let mut values = series.map(|series| series["values"].as_str().unwrap());
            assert!(values.any(|values| values.contains('_')), "{file}");
            assert!(fired(group, &alert), "{file}: {}", group["name"]);
        }
        expected.insert(file);
    }
    let folder = fs::read_dir(repository("dashboards/alerts/tests")).unwrap();
    let found: BTreeSet<_> = folder
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected);
}

/// Whether a group expects the alert; each time with every label and annotation of the
/// rule.
fn fired(group: &Value, alert: &Alert) -> bool {
    let checks = group["alert_rule_test"].as_array().unwrap();
    let mut fired = false;
    for check in checks {
        assert_eq!(check["alertname"], alert.name.as_str());
        for expected in check["exp_alerts"].as_array().unwrap() {
            fired = true;
            for (label, value) in alert.rule["labels"].as_object().unwrap() {
                assert_eq!(expected["exp_labels"][label], *value, "{}", alert.name);
            }
            let keys = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(
                keys(&expected["exp_annotations"]),
                keys(&alert.rule["annotations"]),
                "{}",
                alert.name
            );
        }
    }
    fired
}

#[test]
fn alerts_are_complete_and_have_the_required_severity() {
    let all = alerts();
    for (name, after, severity) in REQUIRED_ALERTS {
        let alert = all.iter().find(|alert| alert.name == name);
        let rule = &alert.unwrap_or_else(|| panic!("no alert {name}")).rule;
        assert_eq!(rule["for"], after, "{name}");
        assert_eq!(rule["labels"]["severity"], severity, "{name}");
    }
    let mut names = BTreeSet::new();
    for Alert { name, rule } in &all {
        assert!(names.insert(name), "{name} twice");
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity));
        assert!(rule["labels"]["area"].is_string() && rule["for"].is_string());
        let annotations = &rule["annotations"];
        let summary = annotations["summary"].as_str().unwrap();
        assert!(
            summary.len() < 100 && summary.ends_with('.'),
            "{name}: {summary}"
        );
        let description = annotations["description"].as_str().unwrap();
        assert!(description.len() > summary.len(), "{name}: {description}");
        assert!(annotations["runbook_url"].is_string(), "{name}");
        // Selects by job only, so that one replacement adapts all rules to another job.
        let expr = rule["expr"].as_str().unwrap();
        let selectors = expr.split('{').skip(1);
        for selector in selectors.map(|rest| rest.split('}').next().unwrap()) {
            assert!(selector.starts_with(r#"job="kindler""#), "{name}: {expr}");
            assert!(!selector.contains("instance"), "{name}: {expr}");
        }
    }
}

#[test]
fn amtool_accepts_the_configuration() {
    let Some(mut amtool) = tool(&["amtool"]) else {
        return;
    };
    let file = repository("dashboards/alerts/alertmanager.yml");
    succeeds(amtool.arg("check-config").arg(file));
}

/// The shipped inhibitions, applied to pairs of shipped alerts.
#[test]
fn only_redundant_alerts_are_inhibited() {
    let all = alerts();
    let labels = |alert: &str, name: Option<&str>| -> Vec<(String, String)> {
        let rule = &all.iter().find(|known| known.name == alert).unwrap().rule;
        let set = rule["labels"].as_object().unwrap().iter();
        let mut labels: Vec<_> = set
            .map(|(label, value)| (label.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        labels.push(("alertname".into(), alert.into()));
        labels.push(("job".into(), "kindler".into()));
        labels.extend(name.map(|name| ("name".into(), name.into())));
        labels
    };
    let silenced = |source: &[(String, String)], target: &[(String, String)]| {
        let config = document(&repository("dashboards/alerts/alertmanager.yml"));
        let rules = config["inhibit_rules"].as_array().unwrap();
        rules.iter().any(|rule| {
            let all_match = |key: &str, labels: &[(String, String)]| {
                texts(&rule[key])
                    .iter()
                    .all(|matcher| holds(matcher, labels))
            };
            all_match("source_matchers", source)
                && all_match("target_matchers", target)
                && texts(&rule["equal"])
                    .iter()
                    .all(|label| value(source, label) == value(target, label))
        })
    };
    for cause in ["KindlerDown", "DatabaseDown"] {
        for alert in &all {
            let area = alert.rule["labels"]["area"].as_str().unwrap();
            if ["cluster", "reconciler", "host"].contains(&area) {
                let target = labels(&alert.name, Some("dev"));
                assert!(silenced(&labels(cause, None), &target), "{}", alert.name);
            }
        }
    }
    let cluster = labels("ClusterFailed", Some("dev"));
    assert!(silenced(&labels("RepairsHeld", None), &cluster));
    assert!(!silenced(&labels("ReconcileStale", None), &cluster));
    assert!(!silenced(
        &labels("ClusterFailed", Some("uat")),
        &labels("RetriesExhausted", Some("uat"))
    ));
    // No shipped critical alert has a name label, but a user's own may.
    let mut critical = labels("ClusterFailed", Some("dev"));
    for (label, value) in &mut critical {
        match label.as_str() {
            "severity" => *value = "critical".into(),
            "alertname" => *value = "TheirOwn".into(),
            _ => {}
        }
    }
    assert!(silenced(&critical, &cluster));
    assert!(!silenced(&critical, &labels("ClusterFailed", Some("uat"))));
    assert!(!silenced(&critical, &labels("ListenDisconnected", None)));
}

fn value<'a>(labels: &'a [(String, String)], label: &str) -> &'a str {
    let found = labels.iter().find(|(key, _)| key == label);
    found.map_or("", |(_, value)| value)
}

/// Evaluates one matcher; of regular expressions only alternatives.
fn holds(matcher: &str, labels: &[(String, String)]) -> bool {
    let word = |text: &str| text.trim_matches('"').to_owned();
    if let Some((label, pattern)) = matcher.split_once("=~") {
        return word(pattern)
            .split('|')
            .any(|one| one == value(labels, label));
    }
    if let Some((label, unwanted)) = matcher.split_once("!=") {
        return word(unwanted) != value(labels, label);
    }
    let (label, expected) = matcher.split_once('=').unwrap();
    word(expected) == value(labels, label)
}
