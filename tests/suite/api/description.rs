//! `/openapi.json` and the routes match.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::Value;

use super::quiet_site;

/// Every route of the contract.
const ROUTES: &[&str] = &[
    "GET /api/health",
    "GET /api/config",
    "GET /api/services",
    "GET /api/suggest",
    "GET /api/status",
    "GET /api/clusters",
    "POST /api/clusters",
    "GET /api/clusters/{name}",
    "PATCH /api/clusters/{name}",
    "DELETE /api/clusters/{name}",
    "GET /api/clusters/{name}/status",
    "GET /api/clusters/{name}/steps",
    "POST /api/clusters/{name}/start",
    "POST /api/clusters/{name}/stop",
    "POST /api/clusters/{name}/retry",
    "POST /api/clusters/{name}/adopt",
    "POST /api/clusters/{name}/recreate",
    "POST /api/clusters/{name}/pause",
    "POST /api/clusters/{name}/resume",
    "POST /api/clusters/{name}/rollback",
    "GET /api/clusters/{name}/events",
    "GET /api/clusters/{name}/revisions",
    "GET /api/clusters/{name}/revisions/diff",
    "GET /api/clusters/{name}/log",
    "GET /api/clusters/{name}/kubeconfig",
    "POST /api/batch",
    "GET /api/events",
    "GET /api/tasks/{id}",
    "GET /api/stream",
    "GET /ws/tasks",
];

#[tokio::test]
async fn the_openapi_document_matches_the_routes() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let document = site.http.get("/openapi.json").await.is(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            described.insert(format!("{} {path}", method.to_uppercase()));
            assert!(
                operation["responses"]
                    .as_object()
                    .is_some_and(|r| !r.is_empty()),
                "{path}"
            );
            let summary = operation.get("summary").or(operation.get("description"));
            assert!(
                summary
                    .and_then(Value::as_str)
                    .is_some_and(|t| !t.is_empty()),
                "{method} {path} has no summary"
            );
            // Every operation except the public ones has a scope.
            if path != "/api/health"
                && !path.starts_with("/api/session")
                && !path.starts_with("/api/log")
            {
                let scope = &operation["security"][0]["token"][0];
                let unsafe_method = method != "get";
                let fits = if unsafe_method {
                    ["write", "admin"]
                } else {
                    ["read", "admin"]
                };
                assert!(
                    scope.as_str().is_some_and(|scope| fits.contains(&scope)),
                    "{method} {path}: {scope}"
                );
            }
        }
    }
    let missing: Vec<_> = ROUTES
        .iter()
        .filter(|route| !described.contains(**route))
        .collect();
    assert!(missing.is_empty(), "not described: {missing:?}");
    // Every described operation is routed: no 405, and no 404 for the path.
    for route in &described {
        let (method, path) = route.split_once(' ').unwrap();
        if path == "/api/stream" || path == "/ws/tasks" || path.starts_with("/api/log") {
            continue;
        }
        let path = path
            .replace("{name}", "dev")
            .replace("{id}", "reconcile-dev");
        let method: Method = method.parse().unwrap();
        let answer = site.http.send(method, &path, None, &[]).await;
        assert_ne!(answer.status, 405, "{route}");
        let unrouted = answer.status == 404 && answer.text.contains(&format!("{path} not found"));
        assert!(!unrouted, "{route}: {}", answer.text);
    }
}

#[tokio::test]
async fn every_reference_of_the_document_resolves() {
    let site = quiet_site().await;
    let document = site.http.get("/openapi.json").await.is(200).json();
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                left.extend(fields.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    assert!(
        document
            .pointer("/components/securitySchemes/token")
            .is_some()
    );
}

#[tokio::test]
async fn the_docs_page_has_no_scripts() {
    let site = quiet_site().await;
    let page = site.http.get("/docs").await.is(200);
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let body = page.text.to_lowercase();
    assert!(
        !body.contains("<script>") && !body.contains("onclick=") && !body.contains("style=\""),
        "inline code"
    );
    for route in ROUTES {
        let (method, path) = route.split_once(' ').unwrap();
        assert!(
            page.text.contains(path) && page.text.contains(method),
            "{route}"
        );
    }
}
