//! The contract with clients of the old system: paths, bodies, texts and codes.

use serde_json::{Value, json};

use super::{quiet_site, site, site_with};
use crate::kit::Sql;

const INFO: [&str; 17] = [
    "name",
    "provider",
    "node_port",
    "pf_port",
    "http_port",
    "https_port",
    "cluster_subnet",
    "register_portainer",
    "haproxy_route",
    "register_argocd",
    "status",
    "created_at",
    "updated_at",
    "desired_state",
    "actual_state",
    "last_reconciled_at",
    "reconcile_error",
];

#[tokio::test]
async fn health_and_config_are_those_of_the_old_system() {
    let site = site_with(|daemon| daemon.set("KINDLER_BASE_DOMAIN", "example.org")).await;
    let health = site.http.get("/api/health").await.is(200).json();
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["service"], "kindler-webui-backend");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    let expected = json!({
        "base_domain": "example.org", "providers": ["kind", "k3d"], "default_provider": "k3d",
        "default_node_port": 30080, "default_pf_port_range": [19001, 19999],
        "default_http_port_range": [18090, 18999], "default_https_port_range": [18443, 18999],
    });
    assert_eq!(site.http.get("/api/config").await.is(200).json(), expected);
}

#[tokio::test]
async fn a_body_of_name_and_provider_gets_the_old_defaults() {
    let site = quiet_site().await;
    let task = site.declare("dev").await.json();
    assert_eq!(task["task_id"], "reconcile-dev");
    assert_eq!(task["status"], "pending");
    assert!(task["message"].as_str().unwrap().contains("dev"), "{task}");
    let info = site.http.get("/api/clusters/dev").await.is(200).json();
    for field in INFO {
        assert!(info.get(field).is_some(), "{field} is missing in {info}");
    }
    let row = site
        .sql.text("SELECT concat_ws(' ', provider, coalesce(subnet::text, '-'), node_port, pf_port, http_port, https_port, register_portainer, haproxy_route, register_argocd, desired_state, actual_state) FROM clusters")
        .await;
    assert_eq!(row, "k3d - 30080 19000 18080 18443 t t t present unknown");
    assert_eq!(info["cluster_subnet"], Value::Null);
    assert_eq!(
        (&info["status"], &info["actual_state"]),
        (&json!("unknown"), &json!("unknown"))
    );
}

#[tokio::test]
async fn every_field_of_a_body_reaches_its_column() {
    let site = quiet_site().await;
    let body = json!({
        "name": "full", "provider": "kind", "node_port": 31000, "pf_port": 19100, "http_port": 18100,
        "https_port": 18500, "cluster_subnet": "10.110.0.0/16", "register_portainer": false,
        "haproxy_route": false, "register_argocd": false, "labels": {"env": "prod"}, "paused": true,
        "desired_state": "stopped",
    });
    site.http.post("/api/clusters", body.clone()).await.is(202);
    let info = site.http.get("/api/clusters/full").await.json();
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&info[field], value, "{field}");
    }
    let row = "SELECT concat_ws(' ', subnet, node_port, http_port, register_argocd, labels, paused, desired_state) FROM clusters";
    let row = site.sql.text(row).await;
    assert_eq!(
        row,
        r#"10.110.0.0/16 31000 18100 f {"env": "prod"} t stopped"#
    );
    // The old page sends an empty subnet for none.
    let body = json!({ "name": "empty", "provider": "kind", "cluster_subnet": "" });
    site.http.post("/api/clusters", body).await.is(202);
    assert_eq!(
        site.http.get("/api/clusters/empty").await.json()["cluster_subnet"],
        Value::Null
    );
}

#[tokio::test]
async fn used_unknown_and_reserved_names_are_rejected() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let body = json!({ "name": "dev", "provider": "kind" });
    let taken = site.http.post("/api/clusters", body).await.is(409);
    assert!(taken.detail().contains("already exists"), "{}", taken.text);
    assert_eq!(site.sql.text("SELECT provider FROM clusters").await, "k3d");
    for path in ["", "/status", "/events", "/revisions", "/log"] {
        let path = format!("/api/clusters/nobody{path}");
        let answer = site.http.get(&path).await.is(404);
        assert!(
            answer.detail().contains("not found") || path.ends_with("/log"),
            "{path}: {}",
            answer.text
        );
    }
    for path in ["start", "stop", "retry", "pause", "resume"] {
        let answer = site
            .http
            .post_empty(&format!("/api/clusters/nobody/{path}"))
            .await
            .is(404);
        assert!(
            answer.detail().contains("not found"),
            "{path}: {}",
            answer.text
        );
    }
    site.http.delete("/api/clusters/nobody").await.is(404);
    // 403 precedes 404: there is no row yet.
    site.http.delete("/api/clusters/devops").await.is(403);
    site.http.get("/api/tasks/reconcile-nobody").await.is(404);
    site.http.get("/api/tasks/nonsense").await.is(404);
    site.http
        .get("/api/tasks/6f9619ff-8b86-d011-b42d-00cf4fc964ff")
        .await
        .is(404);
}

#[tokio::test]
async fn protected_clusters_are_listed_and_never_changed() {
    let site = quiet_site().await;
    site.sql
        .run(
            "INSERT INTO clusters (name, provider) VALUES ('devops', 'k3d'), ('safe', 'k3d');
              UPDATE clusters SET protected = true WHERE name = 'safe'",
        )
        .await;
    let listed = site.http.get("/api/clusters").await.is(200).json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let rows = "SELECT string_agg(xmin::text, ' ' ORDER BY name) FROM clusters";
    let before = site.sql.text(rows).await;
    for name in ["devops", "safe"] {
        let path = format!("/api/clusters/{name}");
        site.http.delete(&path).await.is(403);
        site.http
            .patch(&path, json!({ "http_port": 18777 }))
            .await
            .is(403);
        for action in ["start", "stop", "retry", "pause", "resume"] {
            site.http
                .post_empty(&format!("{path}/{action}"))
                .await
                .is(403);
        }
        site.http
            .post(&format!("{path}/rollback"), json!({ "generation": 1 }))
            .await
            .is(403);
        site.http
            .post("/api/batch", json!({ "delete": [name] }))
            .await
            .is(403);
    }
    assert_eq!(site.sql.text(rows).await, before);
}

#[tokio::test]
async fn a_delete_declares_absent_and_removes_the_row() {
    let site = site().await;
    site.declare("dev").await;
    site.until("dev", "actual_state", "running").await;
    let status = site
        .http
        .get("/api/clusters/dev/status")
        .await
        .is(200)
        .json();
    for (field, value) in [
        ("name", json!("dev")),
        ("status", json!("running")),
        ("nodes_ready", json!(0)),
        ("nodes_total", json!(0)),
        ("error_message", Value::Null),
    ] {
        assert_eq!(status[field], value, "{field}");
    }
    // The cluster is registered with both services; neither runs here.
    assert!(["online", "offline"].contains(&status["portainer_status"].as_str().unwrap()));
    assert!(["healthy", "degraded"].contains(&status["argocd_status"].as_str().unwrap()));
    let apart = json!({ "register_portainer": false, "register_argocd": false });
    site.http.patch("/api/clusters/dev", apart).await.is(200);
    let status = site.http.get("/api/clusters/dev/status").await.json();
    assert_eq!(status["portainer_status"], "unknown");
    assert_eq!(status["argocd_status"], "unknown");
    let task = site.http.delete("/api/clusters/dev").await.is(202).json();
    assert_eq!(
        (&task["task_id"], &task["status"]),
        (&json!("reconcile-delete-dev"), &json!("pending"))
    );
    site.until_gone("dev").await;
    assert_eq!(site.host.cluster("dev"), None);
}

#[tokio::test]
async fn every_service_has_a_status() {
    let site = quiet_site().await;
    let services = site.http.get("/api/services").await.is(200).json();
    for name in ["portainer", "argocd", "haproxy", "git"] {
        let service = &services[name];
        assert_eq!(service["name"], name);
        for field in ["status", "url", "message"] {
            assert!(service[field].is_string(), "{name}.{field} in {services}");
        }
    }
}
