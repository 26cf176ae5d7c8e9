//! What an operation would ignore is refused, and nothing is done then.

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{Site, quiet_site};

/// Sent with everything, so that the login's operations look at the rest, too.
const OF_THE_PAGE: (&str, &str) = ("x-kindler-csrf", "1");

/// One operation of the description, in a form that would be carried out.
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
                other => panic!("{other} takes a body: say which"),
            });
            let path = path.replace("{name}", "dev");
            let path = path.replace("{id}", "reconcile-dev");
            operations.push(Operation { method, path, body });
        }
    }
    assert!(operations.len() > 25, "{}", operations.len());
    operations
}

/// Everything that an operation could have written.
const BOOKS: &str = "SELECT string_agg(name || xmin::text, ' ' ORDER BY name) \
     || (SELECT count(*) FROM cluster_events) || ' ' || (SELECT count(*) FROM cluster_revisions) \
     FROM clusters";

#[tokio::test]
async fn no_operation_ignores_a_parameter() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let before = site.text(BOOKS).await;
    for Operation { method, path, body } in operations(&site).await {
        for query in ["zzz=1", "from=1&to=1&dry%5Frun=true&zzz"] {
            // Where it is a parameter, it is kept to.
            let known = |name: &str| {
                (path.ends_with("/diff") && matches!(name, "from" | "to"))
                    || (path == "/api/clusters" && method == Method::POST && name == "dry_run")
            };
            let asked = format!("{path}?{query}");
            let asked_by = &[OF_THE_PAGE];
            let answer = site
                .http
                .send(method.clone(), &asked, body.clone(), asked_by)
                .await;
            assert_eq!(answer.status, 422, "{method} {asked}: {}", answer.text);
            let told = answer.faults().join("; ");
            assert!(
                told.contains("query.zzz: zzz is not a parameter"),
                "{method} {asked}: {told}"
            );
            let wanted = query.contains("dry") && !known("dry_run");
            assert_eq!(told.contains("query.dry_run: "), wanted, "{method} {asked}");
            assert_eq!(site.text(BOOKS).await, before, "{method} {asked}");
        }
    }
    site.http.delete("/api/clusters/dev?").await.is(202);
}

#[tokio::test]
async fn no_operation_ignores_a_field() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let before = site.text(BOOKS).await;
    for Operation { method, path, body } in operations(&site).await {
        if method == Method::GET {
            continue;
        }
        let mut body = body.unwrap_or_else(|| json!({}));
        body["zzz"] = json!(1);
        let answer = site
            .http
            .send(method.clone(), &path, Some(body), &[OF_THE_PAGE])
            .await;
        let answer = answer.is(422);
        let told = answer.faults().join("; ");
        assert!(
            told.contains("body.zzz: zzz is not a field"),
            "{method} {path}: {told}"
        );
        assert_eq!(site.text(BOOKS).await, before, "{method} {path}");
    }
    let stop = "/api/clusters/dev/stop";
    for (bytes, named) in [
        ("[]", "body: expected an object"),
        ("{", "body: the body is not"),
    ] {
        let json = &[("content-type", "application/json")];
        let answer = site.http.raw(Method::POST, stop, bytes.into(), json).await;
        let told = answer.is(422).faults().join("; ");
        assert!(told.starts_with(named), "{bytes}: {told}");
    }
    assert_eq!(site.text(BOOKS).await, before);
}

#[tokio::test]
async fn orders_come_with_an_empty_body_or_none() {
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
async fn a_precondition_that_cannot_be_kept_is_refused() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let before = site.text(BOOKS).await;
    for (path, body) in [
        ("/api/clusters", json!({ "name": "new", "provider": "k3d" })),
        ("/api/batch", json!({ "delete": ["dev"] })),
    ] {
        let headers = &[("if-match", "\"1\"")];
        let answer = site
            .http
            .send(Method::POST, path, Some(body), headers)
            .await;
        let told = answer.is(422).faults().join("; ");
        assert!(told.starts_with("header.If-Match: "), "{path}: {told}");
    }
    assert_eq!(site.text(BOOKS).await, before);
}
