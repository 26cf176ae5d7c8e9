//! Ports of the host over the API: free ones by default, and a warning for used ones.

use serde_json::{Value, json};

use super::{SOON, quiet_site, site};
use crate::kit::{Sql, eventually, kindler_output};

const PORTS: &str = "SELECT string_agg(concat_ws(' ', name, pf_port, http_port, https_port), ', ' ORDER BY name) FROM clusters";

#[tokio::test]
async fn each_cluster_without_given_ports_gets_free_ones() {
    let site = quiet_site().await;
    site.declare("a").await;
    let dry = json!({ "name": "b", "provider": "k3d" });
    let dry = site.http.post("/api/clusters?dry_run=true", dry).await;
    let dry = dry.is(200).json();
    assert_eq!(dry["warnings"], json!([]));
    assert_eq!(dry["info"]["http_port"], 18090);
    site.declare("b").await;
    let batch = json!({ "create": [{ "name": "c", "provider": "kind" }, { "name": "d", "provider": "kind", "pf_port": 19002 }] });
    let batch = site.http.post("/api/batch", batch).await.is(202).json();
    assert_eq!(
        site.sql.text(PORTS).await,
        "a 19000 18080 18443, b 19001 18090 18444, c 19002 18091 18445, d 19002 18092 18446"
    );
    let shared =
        "pf_port 19002 of cluster d is also declared by cluster c: both cannot run on one host";
    assert_eq!(batch["tasks"][0]["warnings"], Value::Null);
    assert_eq!(batch["tasks"][1]["warnings"], json!([shared]));
}

#[tokio::test]
async fn a_used_port_is_declared_with_a_warning() {
    let site = quiet_site().await;
    site.declare("a").await;
    let body = json!({ "name": "b", "provider": "k3d", "http_port": 18443, "https_port": 18500 });
    let made = site.http.post("/api/clusters", body).await.is(202).json();
    let warning = |field: &str, port| {
        json!([format!(
            "{field} {port} of cluster b is also declared by cluster a: both cannot run on one host"
        )])
    };
    assert_eq!(made["warnings"], warning("http_port", 18443));
    let change = |body: Value| async {
        site.http
            .patch("/api/clusters/b", body)
            .await
            .is(200)
            .json()
    };
    let changed = change(json!({ "http_port": 18080 })).await;
    assert_eq!(changed["warnings"], warning("http_port", 18080));
    let changed = change(json!({ "http_port": 18090 })).await;
    assert_eq!(changed.get("warnings"), None);
    let back = json!({ "generation": 1 });
    let back = site
        .http
        .post("/api/clusters/b/rollback", back)
        .await
        .is(200)
        .json();
    assert_eq!(back["warnings"], warning("http_port", 18443));
}

#[tokio::test]
async fn a_daemon_reports_shared_ports_until_they_differ() {
    let site = site().await;
    let declare = "INSERT INTO clusters (name, provider, http_port, paused) VALUES ('a', 'k3d', 18300, true), ('b', 'k3d', 18300, true)";
    site.sql.run(declare).await;
    let ready = || async { site.http.get("/readyz").await.is(200).text };
    let found = eventually(SOON, "a finding", || async {
        let text = ready().await;
        text.contains("PortsShared").then_some(text)
    })
    .await;
    assert!(
        found.contains("http_port 18300 of cluster a is also declared by cluster b"),
        "{found}"
    );
    let (_, statement) = found.split_once("give it a free port: ").unwrap();
    site.sql.run(statement.lines().next().unwrap()).await;
    eventually(SOON, "no finding", || async {
        !ready().await.contains("PortsShared")
    })
    .await;
}

/// The older one may run already.
#[tokio::test]
async fn of_two_clusters_with_one_port_the_younger_moves() {
    let site = site().await;
    let ports = "http_port, https_port, pf_port, paused) VALUES";
    for name in ["a", "b"] {
        let declare = format!(
            "INSERT INTO clusters (name, provider, {ports} ('{name}', 'k3d', 18300, 18600, 19300, true)"
        );
        site.sql.run(&declare).await;
    }
    let found = eventually(SOON, "a finding", || async {
        let text = site.http.get("/readyz").await.is(200).text;
        text.contains("PortsShared").then_some(text)
    })
    .await;
    let first = "http_port 18300 of cluster b is also declared by cluster a \
                 (and 2 more ports in conflict)";
    assert!(found.contains(first), "{found}");
    assert!(found.contains("WHERE name = 'b'"), "{found}");
    for (name, other) in [("a", "b"), ("b", "a")] {
        let (shown, _) = kindler_output(&site.database.url(), &site.host, &["get", name]);
        for port in ["http_port 18300", "https_port 18600", "pf_port 19300"] {
            let line = format!(
                "conflict      {port} of cluster {name} is also declared by cluster {other}"
            );
            assert!(shown.contains(&line), "{line} is not in\n{shown}");
        }
    }
}
