//! The whole chain, live: Postgres, two instances of Kindler, Prometheus, the shipped
//! rules, Alertmanager and a receiver. Then every expression of every panel and rule
//! runs over the recorded data.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio_postgres::Client;

use super::promql::{operands, scraped, selectors, with_variables};
use super::rig::MonitoringStack;
use super::{Dashboard, alerts, dashboards};
use crate::kit::{Daemon, Host, PrivateServer, Sql, eventually, migrated};

/// Long enough for all intervals of the chain on a busy machine.
const NOTIFIED_WITHIN: Duration = Duration::from_secs(60);
/// The cluster that fails in the run.
const FAILING: &str = "failing";

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs()
}

/// Waits until the receiver was notified that an alert fires, or that it is resolved.
async fn notifications(
    stack: &MonitoringStack,
    alert: &str,
    status: &str,
    about: &[(&str, &str)],
) -> Value {
    let awaited = format!("alert {alert} to be {status}");
    eventually(NOTIFIED_WITHIN, &awaited, || async {
        stack
            .notifications(alert)
            .into_iter()
            .find(|notifications| {
                notifications["status"] == status
                    && about
                        .iter()
                        .all(|(label, value)| notifications["labels"][label] == *value)
            })
    })
    .await
}

/// Waits until an expression has had a numeric value.
async fn has_data(stack: &MonitoringStack, expr: &str, from: u64, what: &str) {
    let awaited = format!("data of {what}: {expr}");
    eventually(NOTIFIED_WITHIN, &awaited, || async {
        let series = stack.series(expr, from, now()).await;
        let values = series
            .iter()
            .flat_map(|one| one["values"].as_array().unwrap());
        let mut values = values.map(|pair| pair[1].as_str().unwrap());
        values.any(|value| value != "NaN")
    })
    .await;
}

#[tokio::test]
async fn a_failing_cluster_alerts_and_every_panel_has_data() {
    let database = migrated().await;
    let (sql, host) = (database.connect().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    let page = Daemon::builder(&database.url(), &host)
        .set("KINDLER_API_ONLY", "true")
        .start()
        .await;
    let from = now();
    let Some(stack) = MonitoringStack::start(&[daemon.address(), page.address()]).await else {
        return;
    };
    // There is no data from before the first scrape.
    has_data(&stack, r#"up{job="kindler"} == 1"#, from, "the scrape").await;

    host.control(&format!("{FAILING}.create"), "exit 1");
    sql.declare(FAILING).await;
    let firing = notifications(&stack, "ClusterFailed", "firing", &[("name", FAILING)]).await;
    assert_eq!(firing["labels"]["severity"], "warning", "{firing}");
    assert_eq!(firing["labels"]["job"], "kindler");
    // One alert, however many instances report it.
    assert_eq!(firing["labels"].get("instance"), None, "{firing}");
    let notes = &firing["annotations"];
    assert_eq!(notes["reason"], "CreateFailed", "{firing}");
    assert_eq!(notes["summary"], format!("The cluster {FAILING} fails."));
    let description = notes["description"].as_str().unwrap();
    assert!(
        description.contains("failure is CreateFailed"),
        "{description}"
    );
    assert!(!description.contains('\n'), "{description}");
    let runbook = notes["runbook_url"].as_str().unwrap();
    assert!(
        runbook.ends_with("/docs/runbooks/clusterfailed.md"),
        "{runbook}"
    );

    produce_all_states(&sql, &host, &daemon, &stack, from).await;

    assert!(
        stack
            .notifications("ClusterFailed")
            .iter()
            .all(|notifications| notifications["status"] == "firing")
    );
    every_metric_is_scraped(&[&daemon, &page]).await;
    host.release(&format!("{FAILING}.create"));
    sql.wait_state(FAILING, "present running").await;
    notifications(&stack, "ClusterFailed", "resolved", &[("name", FAILING)]).await;

    every_expression_has_data(&stack, from).await;
    every_rule_was_evaluated(&stack).await;

    // The second instance stops: exactly one alert fires.
    let stopped = page.address();
    page.stop().await;
    notifications(
        &stack,
        "KindlerInstanceUnreachable",
        "firing",
        &[("instance", &stopped)],
    )
    .await;
    for alert in ["KindlerDown", "DatabaseDown", "ReconcileStale"] {
        assert_eq!(stack.notifications(alert), Vec::<Value>::new());
    }
}

/// Clusters are created, changed, stopped, started, broken and deleted, and a stream is
/// open. Each state lasts until it is scraped.
async fn produce_all_states(
    sql: &Client,
    host: &Host,
    daemon: &Daemon,
    stack: &MonitoringStack,
    from: u64,
) {
    let data = |expr: &'static str| has_data(stack, expr, from, "Prometheus");
    let mut stream = tokio::net::TcpStream::connect(daemon.address())
        .await
        .unwrap();
    let open = b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, open)
        .await
        .unwrap();
    host.control("works.create", "sleep 2");
    host.control("works.delete", "sleep 3");
    sql.declare("works").await;
    data(r#"kindler_cluster_status_phase{name="works",phase="creating"} == 1"#).await;
    sql.wait_state("works", "present running").await;
    host.release("works.create");
    sql.run("UPDATE clusters SET pf_port = 19555 WHERE name = 'works'")
        .await;
    data(r#"kindler_action_total{action="update",result="success"} > 0"#).await;
    host.set_cluster("works", Some("unhealthy"));
    data("kindler_drift_total > 0").await;
    data("kindler_cluster_recent_drifts > 0").await;
    sql.wait_state("works", "present running").await;
    sql.desire("works", "stopped").await;
    sql.wait_state("works", "stopped stopped").await;
    sql.desire("works", "present").await;
    sql.wait_state("works", "present running").await;
    data("kindler_streams_open > 0").await;
    // The condition is exported only while it is not false.
    host.fail_every_second_probe();
    data(r#"kindler_cluster_status_condition{name="works",type="Flapping",status="true"} == 1"#)
        .await;
    host.release("probe");
    assert_eq!(daemon.get("/api/clusters").await.unwrap().0, 200);
    // More than there are workers.
    for n in 1..=8 {
        host.control(&format!("waits-{n}.create"), "sleep 2");
    }
    sql.declare_many("waits-", 8).await;
    data("kindler_cluster_queue_position > 0").await;
    sql.run("UPDATE clusters SET desired_state = 'absent' WHERE name LIKE 'waits-%'")
        .await;
    sql.desire("works", "absent").await;
    data(r#"kindler_cluster_info{name="works",desired="absent"} == 1"#).await;
    sql.wait_state("works", "gone").await;
}

async fn every_expression_has_data(stack: &MonitoringStack, from: u64) {
    for panel in dashboards().iter().flat_map(Dashboard::panels) {
        for expr in panel.expressions() {
            // The cluster dashboard selects one cluster, the others all.
            let name = match panel.dashboard.as_str() {
                "cluster.json" => FAILING,
                _ => ".+",
            };
            has_data(
                stack,
                &with_variables(&expr, "5s", name),
                from,
                &panel.title(),
            )
            .await;
        }
    }
    for alert in alerts() {
        let expr = alert.rule["expr"].as_str().unwrap();
        for operand in operands(expr) {
            has_data(stack, &operand, from, &alert.name).await;
        }
    }
}

/// A metric that is never exported would never show data.
async fn every_metric_is_scraped(instances: &[&Daemon]) {
    let panels = dashboards();
    let mut exprs: Vec<_> = panels
        .iter()
        .flat_map(Dashboard::panels)
        .flat_map(|panel| panel.expressions())
        .collect();
    exprs.extend(
        alerts()
            .iter()
            .map(|alert| alert.rule["expr"].as_str().unwrap().to_owned()),
    );
    let selected = exprs.iter().flat_map(|expr| selectors(expr));
    let mut named: BTreeSet<_> = selected.map(|selector| selector.metric).collect();
    // Prometheus' own metric.
    assert!(named.remove("up"));
    // Only while clusters wait for a worker: produce_all_states has seen it.
    assert!(named.remove("kindler_cluster_queue_position"));
    assert!(named.len() > 40, "{}", named.len());
    // A scrape lacks the families that the database did not deliver in time.
    let awaited = format!("a scrape with each of {named:?}");
    eventually(NOTIFIED_WITHIN, &awaited, || async {
        let mut known = BTreeSet::new();
        for instance in instances {
            let (_, text) = instance.get("/metrics").await?;
            known.extend(scraped(&text));
        }
        named.is_subset(&known).then_some(())
    })
    .await;
}

async fn every_rule_was_evaluated(stack: &MonitoringStack) {
    let data = stack.query("/api/v1/rules", &[]).await;
    let groups = data["groups"].as_array().unwrap().iter();
    let rules: Vec<_> = groups
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    assert_eq!(rules.len(), alerts().len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

#[tokio::test]
async fn a_database_outage_alerts_once() {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    let (sql, host) = (database.connect().await, Host::new());
    host.control(&format!("{FAILING}.create"), "exit 1");
    let daemon = Daemon::start(&database, &host).await;
    let Some(stack) = MonitoringStack::start(&[daemon.address()]).await else {
        return;
    };
    sql.declare(FAILING).await;
    notifications(&stack, "ClusterFailed", "firing", &[("name", FAILING)]).await;
    server.stop_immediate().await;
    notifications(&stack, "DatabaseDown", "firing", &[("job", "kindler")]).await;
    // The listener is disconnected too: that alert fires, but is silenced.
    stack.wait_suppressed("ListenDisconnected").await;
    assert_eq!(
        stack.notifications("ListenDisconnected"),
        Vec::<Value>::new()
    );
    server.start().await;
    notifications(&stack, "DatabaseDown", "resolved", &[("job", "kindler")]).await;
}
