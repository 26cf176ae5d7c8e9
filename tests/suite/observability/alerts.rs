//! The rules, their unit tests, and the inhibitions of Alertmanager.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::promql::selectors;
use super::rig::start_alertmanager;
use super::{Alert, RULES, alerts, tool};
use crate::api::client::Client;
use crate::deploy::yaml::{document, texts};
use crate::deploy::{printed, repository, succeeds};
use crate::kit::{TIMEOUT, eventually};

/// The required alerts, with their delay and severity.
const REQUIRED_ALERTS: [(&str, &str, &str); 25] = [
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
    ("DatabaseErrors", "2m", "critical"),
    ("SchemaDamaged", "2m", "critical"),
    ("DeletionWave", "1m", "critical"),
    ("ClockApart", "10m", "warning"),
    ("StateFolderUnusable", "5m", "warning"),
    ("ClustersWithoutRow", "10m", "warning"),
    ("ClusterFlapping", "5m", "warning"),
    ("ReconcilePanics", "1m", "warning"),
    ("TerminalFailures", "10m", "warning"),
    ("PoolExhausted", "5m", "warning"),
    ("ReplicaOnStandby", "30m", "warning"),
    ("StepFailed", "30m", "warning"),
    ("Watchdog", "1m", "info"),
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

/// The input of the first test that an alert fires, continued for hours: each series returns to
/// its first value, or ends.
fn recovered(alert: &Alert) -> Value {
    // What they are about goes away. A dead man's switch ends with its job.
    let ends = ["ClusterStuckCreating", "ClusterStuckDeleting", "Watchdog"];
    let ends = ends.contains(&alert.name.as_str());
    let file = repository("dashboards/alerts/tests").join(unit_test(&alert.name));
    let mut tests = document(&file);
    let groups = tests["tests"].as_array().unwrap().iter();
    let fires = |group: &&Value| group["name"].as_str().unwrap().starts_with("fires");
    let mut group = groups.clone().find(fires).unwrap().clone();
    for series in group["input_series"].as_array_mut().unwrap() {
        let values = series["values"].as_str().unwrap();
        let first = values.split([' ', 'x', '+']).next().unwrap();
        let then = if ends {
            "stale _x220".into()
        } else {
            format!("{first}x220")
        };
        series["values"] = format!("{values} {then}").into();
    }
    group["alert_rule_test"] = json!([
        {"alertname": alert.name, "eval_time": "200m", "exp_alerts": []}
    ]);
    tests["tests"] = json!([group]);
    tests["rule_files"] = json!([repository(RULES)]);
    tests
}

#[test]
fn every_alert_resolves_after_the_recovery() {
    if tool(&["promtool"]).is_none() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let mut command = tool(&["promtool"]).unwrap();
    command.args(["test", "rules"]);
    for alert in alerts() {
        let test = folder.path().join(unit_test(&alert.name));
        fs::write(&test, recovered(&alert).to_string()).unwrap();
        command.arg(test);
    }
    succeeds(&mut command);
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
        for selector in selectors(expr) {
            assert_eq!(selector.matchers[0], r#"job="kindler""#, "{name}: {expr}");
            let mut matchers = selector.matchers.iter();
            assert!(
                !matchers.any(|one| one.starts_with("instance")),
                "{name}: {expr}"
            );
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

/// The shipped inhibitions, applied by Alertmanager to pairs of alerts. Each pair has a
/// job of its own, because every inhibition compares the jobs.
#[tokio::test]
async fn only_redundant_alerts_are_inhibited() {
    let folder = TempDir::new().unwrap();
    let config = document(&repository("dashboards/alerts/alertmanager.yml"));
    let Some(alertmanager) = start_alertmanager(folder.path(), &config).await else {
        return;
    };
    let all = alerts();
    let labels = |alert: &str, name: &str| -> Value {
        let rule = &all.iter().find(|known| known.name == alert).unwrap().rule;
        let mut labels = rule["labels"].clone();
        labels["alertname"] = alert.into();
        labels["name"] = name.into();
        labels
    };
    let cluster = labels("ClusterFailed", "dev");
    // No shipped critical alert has a name label, but a user's own may.
    let mut critical = labels("ClusterFailed", "dev");
    critical["severity"] = "critical".into();
    critical["alertname"] = "TheirOwn".into();
    let mut pairs = vec![
        (labels("ReconcileStale", ""), cluster.clone(), "active"),
        (
            labels("ClusterFailed", "uat"),
            labels("RetriesExhausted", "uat"),
            "active",
        ),
        (critical.clone(), labels("ClusterFailed", "uat"), "active"),
        (critical.clone(), labels("ListenDisconnected", ""), "active"),
        (critical, cluster.clone(), "suppressed"),
        (labels("RepairsHeld", ""), cluster, "suppressed"),
    ];
    for cause in ["KindlerDown", "DatabaseDown", "DatabaseErrors"] {
        for alert in &all {
            let area = alert.rule["labels"]["area"].as_str().unwrap();
            if ["cluster", "reconciler", "host"].contains(&area) {
                pairs.push((labels(cause, ""), labels(&alert.name, "dev"), "suppressed"));
            }
        }
    }
    let mut posted = Vec::new();
    for (pair, (source, target, _)) in pairs.iter_mut().enumerate() {
        for labels in [source, target] {
            labels["job"] = format!("pair {pair}").into();
            posted.push(json!({ "labels": labels }));
        }
    }
    let http = Client::to(alertmanager.port);
    http.post("/api/v2/alerts", posted.into()).await.is(200);
    eventually(TIMEOUT, "the inhibitions of all pairs", || async {
        let states = http.get("/api/v2/alerts").await.json();
        let states = states.as_array().unwrap();
        let is_in = |(_, target, state): &(Value, Value, &str)| {
            let same = |alert: &&Value| {
                ["job", "alertname"].map(|l| &alert["labels"][l])
                    == ["job", "alertname"].map(|l| &target[l])
            };
            let alert = states.iter().find(same);
            alert.is_some_and(|alert| alert["status"]["state"] == *state)
        };
        let wrong: Vec<_> = pairs.iter().filter(|pair| !is_in(pair)).collect();
        println!("not yet as expected: {wrong:?}");
        wrong.is_empty()
    })
    .await;
}
