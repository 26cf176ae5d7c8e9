//! The whole chain, live: Postgres, two instances of Kindler, Prometheus, the
//! shipped rules, Alertmanager, somebody who is woken. And then every expression
//! of every panel and every rule over what was recorded.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::promql::{filled_in, metrics, operands, scraped};
use super::rig::Watch;
use super::{Dashboard, alerts, dashboards};
use crate::kit::{Daemon, Database, Host, PrivateServer, eventually, migrated};

const SOON: Duration = Duration::from_secs(60);
/// The cluster that fails in the run.
const FAILING: &str = "goes-wrong";

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs()
}

/// A database with the tables.
fn insert(name: &str) -> String {
    format!("INSERT INTO clusters (name, provider) VALUES ('{name}', 'k3d')")
}

async fn until(database: &Database, name: &str, wanted: &str) {
    let query = format!(
        "SELECT coalesce((SELECT desired_state || ' ' || actual_state FROM clusters \
         WHERE name = '{name}'), 'gone')"
    );
    eventually(SOON, &format!("{name} to be {wanted}"), || async {
        database.value::<String>(&query).await == wanted
    })
    .await;
}

/// Waits until somebody was told that an alert fires, or that it has resolved.
async fn told(watch: &Watch, alert: &str, status: &str, about: &[(&str, &str)]) -> Value {
    let awaited = format!("{alert} to be told as {status}");
    eventually(SOON, &awaited, || async {
        watch.told(alert).into_iter().find(|told| {
            told["status"] == status
                && about
                    .iter()
                    .all(|(label, value)| told["labels"][label] == *value)
        })
    })
    .await
}

/// Waits until an expression has had a value that is a number.
async fn has_data(watch: &Watch, expr: &str, from: u64, what: &str) {
    let awaited = format!("{what} to show something: {expr}");
    eventually(SOON, &awaited, || async {
        let series = watch.series(expr, from, now()).await;
        let values = series
            .iter()
            .flat_map(|one| one["values"].as_array().unwrap());
        let mut values = values.map(|pair| pair[1].as_str().unwrap());
        values.any(|value| value != "NaN")
    })
    .await;
}

#[tokio::test]
async fn a_failing_cluster_wakes_somebody_and_every_panel_has_its_data() {
    let database = migrated().await;
    let host = Host::new();
    let daemon = Daemon::start(&database, &host).await;
    let page = Daemon::builder(&database.url(), &host)
        .set("KINDLER_API_ONLY", "true")
        .spawn();
    page.ready().await;
    let from = now();
    let Some(watch) = Watch::start(&[daemon.address(), page.address()]).await else {
        return;
    };
    // Nothing is known of time before the first scrape.
    has_data(&watch, r#"up{job="kindler"} == 1"#, from, "the scrape").await;

    host.control(&format!("{FAILING}.create"), "exit 1");
    database.execute(&insert(FAILING)).await;
    let firing = told(&watch, "ClusterFailed", "firing", &[("name", FAILING)]).await;
    assert_eq!(firing["labels"]["severity"], "warning", "{firing}");
    assert_eq!(firing["labels"]["job"], "kindler");
    // One alert, whatever the number of instances that tell of it.
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

    everything_happens(&database, &host, &daemon, &watch, from).await;

    assert!(
        watch
            .told("ClusterFailed")
            .iter()
            .all(|told| told["status"] == "firing")
    );
    every_metric_is_scraped(&[&daemon, &page]).await;
    host.release(&format!("{FAILING}.create"));
    until(&database, FAILING, "present running").await;
    told(&watch, "ClusterFailed", "resolved", &[("name", FAILING)]).await;

    every_expression_shows_something(&watch, from).await;
    every_rule_was_evaluated(&watch).await;

    // The page goes away: that is told of it, and of nothing else.
    let gone = page.address();
    page.stop().await;
    told(
        &watch,
        "KindlerInstanceUnreachable",
        "firing",
        &[("instance", &gone)],
    )
    .await;
    for silent in ["KindlerDown", "DatabaseDown", "ReconcileStale"] {
        assert_eq!(watch.told(silent), Vec::<Value>::new());
    }
}

/// Clusters are made, changed, stopped, started, broken and deleted, a page is
/// open, and each of it lasts until it was scraped.
async fn everything_happens(
    database: &Database,
    host: &Host,
    daemon: &Daemon,
    watch: &Watch,
    from: u64,
) {
    let seen = |expr: &'static str| has_data(watch, expr, from, "Prometheus");
    let mut stream = tokio::net::TcpStream::connect(daemon.address())
        .await
        .unwrap();
    let open = b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, open)
        .await
        .unwrap();
    host.control("works.create", "sleep 2");
    host.control("works.delete", "sleep 3");
    database.execute(&insert("works")).await;
    seen(r#"kindler_cluster_status_phase{name="works",phase="creating"} == 1"#).await;
    until(database, "works", "present running").await;
    host.release("works.create");
    let set = |what: &str| format!("UPDATE clusters SET {what} WHERE name = 'works'");
    database.execute(&set("pf_port = 19555")).await;
    seen(r#"kindler_action_total{action="update",result="success"} > 0"#).await;
    host.set_world("works", Some("ill"));
    seen("kindler_drift_total > 0").await;
    until(database, "works", "present running").await;
    database.execute(&set("desired_state = 'stopped'")).await;
    until(database, "works", "stopped stopped").await;
    database.execute(&set("desired_state = 'present'")).await;
    until(database, "works", "present running").await;
    seen("kindler_streams_open > 0").await;
    assert_eq!(daemon.get("/api/clusters").await.unwrap().0, 200);
    database.execute(&set("desired_state = 'absent'")).await;
    seen(r#"kindler_cluster_info{name="works",desired="absent"} == 1"#).await;
    until(database, "works", "gone").await;
}

async fn every_expression_shows_something(watch: &Watch, from: u64) {
    for panel in dashboards().iter().flat_map(Dashboard::panels) {
        for expr in panel.expressions() {
            // One cluster for the dashboard of one, all of them else.
            let name = match panel.dashboard.as_str() {
                "cluster.json" => FAILING,
                _ => ".+",
            };
            has_data(watch, &filled_in(&expr, "5s", name), from, &panel.title()).await;
        }
    }
    for alert in alerts() {
        let expr = alert.rule["expr"].as_str().unwrap();
        for operand in operands(&expr.replace('\n', " ")) {
            has_data(watch, &operand, from, &alert.name).await;
        }
    }
}

/// A metric that is named and never exported would show nothing, for ever.
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
    let mut named: BTreeSet<_> = exprs.iter().flat_map(|expr| metrics(expr)).collect();
    // Prometheus' own.
    assert!(named.remove("up"));
    assert!(named.len() > 40, "{}", named.len());
    // A scrape that the database does not answer in time lacks what it tells.
    let awaited = format!("a scrape with each of {named:?}");
    eventually(SOON, &awaited, || async {
        let mut known = BTreeSet::new();
        for instance in instances {
            let (_, text) = instance.get("/metrics").await?;
            known.extend(scraped(&text));
        }
        named.is_subset(&known).then_some(())
    })
    .await;
}

async fn every_rule_was_evaluated(watch: &Watch) {
    let data = watch.ask("/api/v1/rules", &[]).await;
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
async fn a_database_that_is_down_is_told_and_its_clusters_are_not() {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    let host = Host::new();
    host.control(&format!("{FAILING}.create"), "exit 1");
    let daemon = Daemon::start(&database, &host).await;
    let Some(watch) = Watch::start(&[daemon.address()]).await else {
        return;
    };
    database.execute(&insert(FAILING)).await;
    told(&watch, "ClusterFailed", "firing", &[("name", FAILING)]).await;
    server.stop_immediate().await;
    told(&watch, "DatabaseDown", "firing", &[("job", "kindler")]).await;
    // The listener is gone too; that fires, and nobody is told.
    watch.is_silenced("ListenDisconnected").await;
    assert_eq!(watch.told("ListenDisconnected"), Vec::<Value>::new());
    server.start().await;
    told(&watch, "DatabaseDown", "resolved", &[("job", "kindler")]).await;
}
