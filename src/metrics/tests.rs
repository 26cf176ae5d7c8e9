use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::metrics::ReconcileResult;

use super::*;

/// A scrape in which every family has a series.
fn full_scrape() -> String {
    let metrics = Metrics::new();
    let controller = metrics.controller("cluster");
    controller.steps.expect("sandbox", &["folder"]);
    metrics
        .http
        .answered("GET", "/metrics", 200, Some(Duration::ZERO));
    let clusters = render_clusters(&fleet::samples::clusters());
    metrics.scrape() + &fleet::samples::fleet().render() + &clusters
}

#[test]
fn known_label_sets_start_at_zero() {
    let metrics = Metrics::new();
    let controller = metrics.controller("cluster");
    let text = metrics.scrape();
    for line in [
        r#"kindler_reconcile_total{controller="cluster",result="error"} 0"#,
        r#"kindler_reconcile_total{controller="cluster",result="requeue"} 0"#,
        r#"kindler_terminal_reconcile_errors_total{controller="cluster"} 0"#,
        r#"kindler_reconcile_timeouts_total{controller="cluster"} 0"#,
        r#"kindler_action_total{action="create",result="failure"} 0"#,
        r#"kindler_action_duration_seconds_count{action="delete"} 0"#,
        r#"kindler_drift_total{reason="gone"} 0"#,
        r#"kindler_db_pool_connections{state="waiting"} 0"#,
        "kindler_ready_seconds_count 0",
        "kindler_listen_connected 0",
        "kindler_listen_reconnects_total 0",
        "kindler_leases_held 0",
        "kindler_streams_open 0",
        "kindler_db_up 0",
        r#"workqueue_depth{controller="cluster",name="cluster"} 0"#,
        r#"workqueue_longest_running_processor_seconds{controller="cluster",name="cluster"} 0"#,
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is missing in\n{text}"
        );
    }
    controller.reconcile_ended(controller.reconcile_began(), ReconcileResult::Error);
    let text = metrics.scrape();
    assert!(text.contains(r#"kindler_reconcile_errors_total{controller="cluster"} 1"#));
    assert!(text.contains(r#"workqueue_retries_total{controller="cluster",name="cluster"} 1"#));
}

#[test]
fn running_work_is_measured_at_the_scrape() {
    let metrics = Metrics::new();
    let controller = metrics.controller("cluster");
    // Both values from one scrape, because time passes between two scrapes.
    let both = || {
        let text = metrics.scrape();
        let value = |name: &str| -> f64 {
            let prefix = format!("{name}{{controller=\"cluster\",name=\"cluster\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
            line.unwrap().parse().unwrap()
        };
        (
            value("workqueue_unfinished_work_seconds"),
            value("workqueue_longest_running_processor_seconds"),
        )
    };
    let first = controller.reconcile_began();
    let second = controller.reconcile_began();
    std::thread::sleep(Duration::from_millis(20));
    let (sum, longest) = both();
    assert!(longest >= 0.02 && sum > longest, "{sum} {longest}");
    controller.reconcile_ended(first, ReconcileResult::Success);
    let (sum, longest) = both();
    assert!(longest >= 0.02 && sum == longest, "{sum} {longest}");
    drop(second);
    assert_eq!(both(), (0.0, 0.0));
}

/// Name, type and label names of each family.
fn families_in(text: &str) -> BTreeSet<(String, String, Vec<String>)> {
    let mut families = BTreeSet::new();
    for (name, kind) in text.lines().filter_map(|line| {
        line.strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
    }) {
        let series = text.lines().find(|line| {
            let rest = line.strip_prefix(name);
            let rest = rest.map(|rest| rest.strip_prefix("_bucket").unwrap_or(rest));
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let series = series.unwrap_or_else(|| panic!("{name} has no series"));
        let labels = series.split_once('{').map_or("", |(_, rest)| rest);
        let mut labels: Vec<String> = labels
            .split(['{', ','])
            .filter_map(|part| part.split_once("=\"").map(|(label, _)| label.to_owned()))
            .filter(|label| label != "le")
            .collect();
        labels.sort();
        families.insert((name.to_owned(), kind.to_owned(), labels));
    }
    families
}

#[test]
fn the_catalogue_and_a_scrape_have_the_same_families() {
    let families = names::groups().flat_map(|(_, _, f)| f.iter());
    let known: BTreeSet<_> = families
        .map(|family| {
            let mut labels: Vec<_> = family.labels.iter().map(ToString::to_string).collect();
            labels.sort();
            let kind = family.kind.as_str().to_owned();
            (family.name.to_owned(), kind, labels)
        })
        .collect();
    assert_eq!(families_in(&full_scrape()), known);
}
