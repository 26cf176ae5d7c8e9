//! Unknown input is rejected, and the request changes nothing.

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{Site, quiet_site};
use crate::kit::Sql;

/// Sent with every request: the login operations need it.
const CSRF: (&str, &str) = ("x-kindler-csrf", "1");

/// One operation of the OpenAPI document, with valid input.
struct Operation {
    method: Method,
    path: String,
    body: Option<Value>,
}

async fn operations(site: &Site) -> Vec<Operation> {
    let document = site.http.get("/openapi.json").await.is(200).json();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let body = described.get("requestBody").map(|_| match path.as_str() {
                "/api/clusters" => json!({ "name": "new", "provider": "k3d" }),
                "/api/clusters/{name}" => json!({ "paused": true }),
                "/api/clusters/{name}/rollback" => json!({ "generation": 1 }),
                "/api/batch" => json!({ "delete": ["dev"] }),
                "/api/login" => json!({ "token": "x" }),
                other => panic!("{other} takes a body: add one here"),
            });
            let path = path.replace("{name}", "dev");
            let path = path.replace("{id}", "reconcile-dev");
            operations.push(Operation { method, path, body });
        }
    }
    assert!(operations.len() > 25, "{}", operations.len());
    operations
}

/// Everything that an operation could write.
const WRITTEN: &str = "SELECT string_agg(name || xmin::text, ' ' ORDER BY name) \
     || (SELECT count(*) FROM cluster_events) || ' ' || (SELECT count(*) FROM cluster_revisions) \
     FROM clusters";

#[tokio::test]
async fn no_operation_ignores_a_parameter() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let before = site.sql.text(WRITTEN).await;
    for Operation { method, path, body } in operations(&site).await {
        for query in ["zzz=1", "from=1&to=1&dry%5Frun=true&zzz"] {
            // Known parameters are accepted.
            let known = |name: &str| {
                (path.ends_with("/diff") && matches!(name, "from" | "to"))
                    || (path == "/api/clusters" && method == Method::POST && name == "dry_run")
            };
            let uri = format!("{path}?{query}");
            let headers = &[CSRF];
            let answer = site
                .http
                .send(method.clone(), &uri, body.clone(), headers)
                .await;
            assert_eq!(answer.status, 422, "{method} {uri}: {}", answer.text);
            let errors = answer.errors().join("; ");
            assert!(
                errors.contains("query.zzz: zzz is not a parameter"),
                "{method} {uri}: {errors}"
            );
            let wanted = query.contains("dry") && !known("dry_run");
            assert_eq!(errors.contains("query.dry_run: "), wanted, "{method} {uri}");
            assert_eq!(site.sql.text(WRITTEN).await, before, "{method} {uri}");
        }
    }
    site.http.delete("/api/clusters/dev?").await.is(202);
}

#[tokio::test]
async fn no_operation_ignores_a_field() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let before = site.sql.text(WRITTEN).await;
    for Operation { method, path, body } in operations(&site).await {
        if method == Method::GET {
            continue;
        }
        let mut body = body.unwrap_or_else(|| json!({}));
        body["zzz"] = json!(1);
        let answer = site
            .http
            .send(method.clone(), &path, Some(body), &[CSRF])
            .await;
        let answer = answer.is(422);
        let errors = answer.errors().join("; ");
        assert!(
            errors.contains("body.zzz: zzz is not a field"),
            "{method} {path}: {errors}"
        );
        assert_eq!(site.sql.text(WRITTEN).await, before, "{method} {path}");
    }
    let stop = "/api/clusters/dev/stop";
    for (bytes, named) in [
        ("[]", "body: expected an object"),
        ("{", "body: the body is not"),
    ] {
        let json = &[("content-type", "application/json")];
        let answer = site.http.raw(Method::POST, stop, bytes.into(), json).await;
        let errors = answer.is(422).errors().join("; ");
        assert!(errors.starts_with(named), "{bytes}: {errors}");
    }
    assert_eq!(site.sql.text(WRITTEN).await, before);
}

#[tokio::test]
async fn actions_accept_an_empty_body_or_none() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let json = ("content-type", "application/json");
    for order in ["stop", "start", "pause", "resume", "retry"] {
        let path = format!("/api/clusters/dev/{order}");
        for (body, headers) in [("", &[][..]), ("", &[json]), ("{}", &[json])] {
            let body = Bytes::from(body);
            let answer = site.http.raw(Method::POST, &path, body, headers).await;
            assert!([200, 202].contains(&answer.status), "{order}: {answer:?}");
        }
    }
    let path = "/api/clusters/dev";
    let empty = Bytes::from("{}");
    site.http
        .raw(Method::DELETE, path, empty, &[json])
        .await
        .is(202);
}

#[tokio::test]
async fn an_unsupported_precondition_is_rejected() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let before = site.sql.text(WRITTEN).await;
    for (path, body) in [
        ("/api/clusters", json!({ "name": "new", "provider": "k3d" })),
        ("/api/batch", json!({ "delete": ["dev"] })),
    ] {
        let headers = &[("if-match", "\"1\"")];
        let answer = site
            .http
            .send(Method::POST, path, Some(body), headers)
            .await;
        let errors = answer.is(422).errors().join("; ");
        assert!(errors.starts_with("header.If-Match: "), "{path}: {errors}");
    }
    assert_eq!(site.sql.text(WRITTEN).await, before);
}
