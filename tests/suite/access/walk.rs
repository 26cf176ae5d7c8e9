//! Every route of the OpenAPI document with every kind of credential. The list in
//! this file has the expected statuses; a route that is not in it fails.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use hyper::Method;
use kindler::access::Scope;
use serde_json::{Value, json};

use super::{CSRF, Guarded, bearer, guarded};
use crate::api::client::Client;
use crate::kit::Sql;

use Scope::{Admin, Read, Write};

/// A route, the scope that it needs, the path and body of the request, and the
/// expected status.
type Route = (
    &'static str,
    Option<Scope>,
    &'static str,
    Option<&'static str>,
    u16,
);

const ROUTES: &[Route] = &[
    ("GET /api/health", None, "/api/health", None, 200),
    ("GET /api/session", None, "/api/session", None, 200),
    ("POST /api/login", None, "/api/login", Some("{}"), 422),
    ("GET /api/tokens", Some(Admin), "/api/tokens", None, 200),
    ("GET /api/config", Some(Read), "/api/config", None, 200),
    ("GET /api/services", Some(Read), "/api/services", None, 200),
    ("GET /api/suggest", Some(Read), "/api/suggest", None, 200),
    ("GET /api/status", Some(Read), "/api/status", None, 200),
    ("GET /api/clusters", Some(Read), "/api/clusters", None, 200),
    (
        "POST /api/clusters",
        Some(Write),
        "/api/clusters",
        Some("{}"),
        422,
    ),
    (
        "GET /api/clusters/{name}",
        Some(Read),
        "/api/clusters/dev",
        None,
        200,
    ),
    (
        "PATCH /api/clusters/{name}",
        Some(Write),
        "/api/clusters/dev",
        Some("{\"nonsense\":1}"),
        422,
    ),
    (
        "DELETE /api/clusters/{name}",
        Some(Write),
        "/api/clusters/gone",
        None,
        202,
    ),
    (
        "GET /api/clusters/{name}/steps",
        Some(Read),
        "/api/clusters/dev/steps",
        None,
        200,
    ),
    (
        "GET /api/clusters/{name}/status",
        Some(Read),
        "/api/clusters/dev/status",
        None,
        200,
    ),
    (
        "POST /api/clusters/{name}/start",
        Some(Write),
        "/api/clusters/dev/start",
        None,
        202,
    ),
    (
        "POST /api/clusters/{name}/stop",
        Some(Write),
        "/api/clusters/dev/stop",
        None,
        202,
    ),
    (
        "POST /api/clusters/{name}/retry",
        Some(Write),
        "/api/clusters/dev/retry",
        None,
        200,
    ),
    (
        "POST /api/clusters/{name}/adopt",
        Some(Write),
        "/api/clusters/dev/adopt",
        None,
        200,
    ),
    (
        "POST /api/clusters/{name}/recreate",
        Some(Write),
        "/api/clusters/dev/recreate",
        None,
        200,
    ),
    (
        "POST /api/clusters/{name}/pause",
        Some(Write),
        "/api/clusters/dev/pause",
        None,
        200,
    ),
    (
        "POST /api/clusters/{name}/resume",
        Some(Write),
        "/api/clusters/dev/resume",
        None,
        200,
    ),
    (
        "POST /api/clusters/{name}/rollback",
        Some(Write),
        "/api/clusters/dev/rollback",
        Some("{}"),
        422,
    ),
    (
        "GET /api/clusters/{name}/events",
        Some(Read),
        "/api/clusters/dev/events",
        None,
        200,
    ),
    (
        "GET /api/clusters/{name}/revisions",
        Some(Read),
        "/api/clusters/dev/revisions",
        None,
        200,
    ),
    (
        "GET /api/clusters/{name}/revisions/diff",
        Some(Read),
        "/api/clusters/dev/revisions/diff?from=1&to=1",
        None,
        200,
    ),
    (
        "GET /api/clusters/{name}/log",
        Some(Read),
        "/api/clusters/dev/log?follow=true",
        None,
        200,
    ),
    (
        "GET /api/clusters/{name}/kubeconfig",
        Some(Admin),
        "/api/clusters/dev/kubeconfig",
        None,
        404,
    ),
    (
        "POST /api/batch",
        Some(Write),
        "/api/batch",
        Some("{\"nonsense\":1}"),
        422,
    ),
    ("GET /api/events", Some(Read), "/api/events", None, 200),
    (
        "GET /api/tasks/{id}",
        Some(Read),
        "/api/tasks/reconcile-dev",
        None,
        200,
    ),
    ("GET /api/stream", Some(Read), "/api/stream", None, 200),
    ("GET /ws/tasks", Some(Read), "/ws/tasks", None, 101),
    // Last: it ends the sessions that the test uses.
    ("POST /api/logout", None, "/api/logout", None, 204),
];

/// The headers of a WebSocket; other routes ignore them.
const UPGRADE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A credential and its scope; `None` if it is invalid.
struct TestCredential {
    what: String,
    header: Option<(&'static str, String)>,
    scope: Option<Scope>,
}

/// Every kind of credential, as a token and as a session cookie.
async fn all_kinds(site: &Guarded) -> Vec<TestCredential> {
    let mut all = vec![TestCredential {
        what: "none".to_owned(),
        header: None,
        scope: None,
    }];
    let mut kind = |what: &str, token: &str, cookie: Option<&str>, scope| {
        all.push(TestCredential {
            what: format!("{what} token"),
            header: Some(("authorization", bearer(token))),
            scope,
        });
        if let Some(cookie) = cookie {
            all.push(TestCredential {
                what: format!("{what} login"),
                header: Some(("cookie", cookie.to_owned())),
                scope,
            });
        }
    };
    let (wrong, cookie) = (
        "A".repeat(43),
        format!("kindler_session={}", "A".repeat(43)),
    );
    kind("wrong", &format!("kdl_{wrong}"), Some(&cookie), None);
    kind("no", "' OR true --", None, None);
    for (name, scope) in [
        ("expired", None),
        ("revoked", None),
        ("read", Some(Read)),
        ("write", Some(Write)),
        ("admin", Some(Admin)),
    ] {
        let token = site.token(name, scope.unwrap_or(Admin)).await;
        let cookie = site.cookie(&token).await;
        kind(name, &token, Some(&cookie), scope);
    }
    site.revoke("revoked").await;
    let end = "UPDATE kindler_tokens SET expires_at = now() WHERE name = 'expired'";
    site.database.run(end).await;
    all
}

/// Sends each request from another address, so that the rate limit does not hide
/// an error.
struct Walker {
    http: Client,
    steps: u32,
}

impl Walker {
    async fn request(
        &mut self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        credential: &TestCredential,
        csrf: bool,
    ) -> u16 {
        self.steps += 1;
        let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + self.steps);
        let mut headers = UPGRADE.to_vec();
        headers.extend(
            credential
                .header
                .as_ref()
                .map(|(name, value)| (*name, &**value)),
        );
        if csrf {
            headers.push(CSRF);
        }
        self.http
            .from(from)
            .status(method.clone(), path, body, &headers)
            .await
    }
}

#[tokio::test]
async fn every_route_checks_every_kind_of_credential() {
    let site = guarded().await;
    site.database
        .run("INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d'), ('gone', 'k3d')")
        .await;
    let document = site.http.get("/openapi.json").await.is(200).json();
    assert_eq!(described(&document), expected());
    let kinds = all_kinds(&site).await;
    let mut walker = Walker {
        http: site.http,
        steps: 0,
    };
    let mut failures = Vec::new();
    for (route, needed, path, body, status) in ROUTES {
        let method: Method = route.split_once(' ').unwrap().0.parse().unwrap();
        let body: Option<Value> = body.map(|text| serde_json::from_str(text).unwrap());
        for credential in &kinds {
            let expected = match (needed, credential.scope) {
                (None, _) => *status,
                (Some(_), None) => 401,
                (Some(needed), Some(scope)) if scope < *needed => 403,
                (Some(_), Some(_)) => *status,
            };
            let found = walker
                .request(&method, path, body.as_ref(), credential, true)
                .await;
            if found != expected {
                failures.push(format!(
                    "{route}, {}: {found}, not {expected}",
                    credential.what
                ));
            }
            // A page of another server cannot send the header.
            let cookie = credential.what.ends_with("login");
            if cookie && method != Method::GET && needed.is_some() {
                let found = walker
                    .request(&method, path, body.as_ref(), credential, false)
                    .await;
                if found != 403 {
                    failures.push(format!(
                        "{route}, {} without CSRF: {found}",
                        credential.what
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(walker.steps > 400, "{}", walker.steps);
}

#[tokio::test]
async fn no_method_or_spelling_bypasses_the_check() {
    let site = guarded().await;
    let admin = site.token("admin", Admin).await;
    let (none, admin) = (None, Some(("authorization", bearer(&admin))));
    let [none, admin] = [none, admin].map(|header| TestCredential {
        what: String::new(),
        header,
        scope: None,
    });
    let mut walker = Walker {
        http: site.http,
        steps: 0,
    };
    for (_, needed, path, _, _) in ROUTES.iter().filter(|route| route.1.is_some()) {
        for method in [Method::HEAD, Method::PUT, Method::OPTIONS, Method::TRACE] {
            let found = walker.request(&method, path, None, &none, true).await;
            assert_eq!(
                found, 401,
                "{method} {path} without a credential, {needed:?}"
            );
        }
        let found = walker.request(&Method::PUT, path, None, &admin, true).await;
        assert_eq!(found, 405, "{path}");
    }
    for path in [
        "//api/clusters",
        "/api//clusters",
        "/api/clusters/",
        "/api/./clusters",
        "/x/../api/clusters",
        "/API/clusters",
        "/api%2fclusters",
        "/%61pi/clusters",
        "/api/clusters;x",
        "/api/clusters%00",
    ] {
        let answer = site.http.get(path).await;
        let is_page = answer.header("content-type").starts_with("text/html");
        assert!(
            [401, 404].contains(&answer.status) || (answer.status == 200 && is_page),
            "{path}: {} {}",
            answer.status,
            answer.text
        );
    }
}

#[tokio::test]
async fn no_scope_may_change_protected_clusters() {
    let site = guarded().await;
    site.database
        .run(
            "INSERT INTO clusters (name, provider) VALUES ('devops', 'k3d'), ('safe', 'k3d');
             UPDATE clusters SET protected = true WHERE name = 'safe'",
        )
        .await;
    let rows = "SELECT string_agg(xmin::text, ' ' ORDER BY name) FROM clusters";
    let before = site.database.text(rows).await;
    let credential = bearer(&site.token("admin", Admin).await);
    let headers = [("authorization", &*credential)];
    for name in ["devops", "safe"] {
        for (method, rest, body) in [
            (Method::DELETE, "", None),
            (Method::PATCH, "", Some(json!({ "http_port": 18777 }))),
            (Method::POST, "/stop", None),
            (Method::POST, "/retry", None),
            (Method::POST, "/pause", None),
            (Method::POST, "/rollback", Some(json!({ "generation": 1 }))),
        ] {
            let path = format!("/api/clusters/{name}{rest}");
            let answer = site.http.send(method, &path, body, &headers).await;
            answer.is(403);
        }
    }
    assert_eq!(site.database.text(rows).await, before);
}

#[tokio::test]
async fn the_login_page_and_monitoring_need_no_token() {
    let site = guarded().await;
    for path in [
        "/",
        "/clusters/dev",
        "/assets/app.js",
        "/openapi.json",
        "/docs",
        "/api/session",
        "/api/health",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        site.http.get(path).await.is(200);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let headers = [("host", "prometheus.example.org")];
        let answer = site.http.send(Method::GET, path, None, &headers).await;
        answer.is(200);
    }
}

/// The routes of the document with their scopes; checks that both schemes are
/// listed.
fn described(document: &Value) -> BTreeSet<String> {
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let scope = operation["x-scope"].as_str().unwrap();
            let security = match scope {
                "none" => json!([{}]),
                scope => json!([{ "token": [scope] }, { "login": [scope] }]),
            };
            assert_eq!(operation["security"], security, "{method} {path}");
            described.insert(format!("{} {path} {scope}", method.to_uppercase()));
        }
    }
    for scheme in ["token", "login"] {
        let schemes = &document["components"]["securitySchemes"];
        assert!(schemes[scheme].is_object(), "{scheme}");
    }
    described
}

fn expected() -> BTreeSet<String> {
    let line = |(route, scope, ..): &Route| {
        let scope = scope.map_or("none", Scope::as_str);
        format!("{route} {scope}")
    };
    ROUTES.iter().map(line).collect()
}
