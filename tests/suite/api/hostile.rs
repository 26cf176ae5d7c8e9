//! Invalid and hostile input: every error names its field and limit.

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::quiet_site;
use crate::kit::Sql;

#[tokio::test]
async fn a_response_lists_all_invalid_fields() {
    let site = quiet_site().await;
    let body = json!({
        "name": "UPPER", "provider": "minikube", "node_port": 0, "pf_port": 70000, "http_port": "80x", "https_port": 1023.5,
        "cluster_subnet": "10.0.0.1/16", "register_portainer": "perhaps", "labels": [1], "colour": "red",
        "desired_state": "gone",
    });
    let mut errors = site.http.post("/api/clusters", body).await.is(422).errors();
    errors.sort();
    let fields: Vec<&str> = errors
        .iter()
        .map(|error| error.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        fields,
        [
            "body.cluster_subnet",
            "body.colour",
            "body.desired_state",
            "body.http_port",
            "body.https_port",
            "body.labels",
            "body.name",
            "body.node_port",
            "body.pf_port",
            "body.provider",
            "body.register_portainer",
        ]
    );
    for (field, limit) in [
        ("cluster_subnet", "8 to 28"),
        ("node_port", "1024 to 65535"),
        ("name", "1 to 63"),
        ("provider", "k3d or kind"),
        ("desired_state", "present"),
    ] {
        let error = errors
            .iter()
            .find(|error| error.starts_with(&format!("body.{field}")))
            .unwrap();
        assert!(error.contains(limit), "{error}");
    }
    assert_eq!(
        site.sql.text("SELECT count(*)::text FROM clusters").await,
        "0"
    );
}

#[tokio::test]
async fn limits_hold_at_their_boundaries() {
    let site = quiet_site().await;
    let mut n = 0;
    for (field, value, fits) in [
        ("http_port", json!(1023), false),
        ("http_port", json!(1024), true),
        ("http_port", json!(65535), true),
        ("http_port", json!(65536), false),
        ("http_port", json!(-1), false),
        ("http_port", json!(9_223_372_036_854_775_807_u64), false),
        ("http_port", json!(1e300), false),
        ("http_port", Value::Null, true),
        ("cluster_subnet", json!("10.1.0.0/16"), true),
        ("cluster_subnet", json!("10.0.0.0/8"), true),
        ("cluster_subnet", json!("10.0.0.0/7"), false),
        ("cluster_subnet", json!("10.0.0.0/29"), false),
        ("cluster_subnet", json!("fd00::/16"), false),
        ("cluster_subnet", json!(7), false),
        ("labels", json!({"k": "v"}), true),
        ("labels", json!({"": "v"}), false),
        ("labels", json!({"k": "v".repeat(10_000)}), false),
        ("labels", json!({"k": null}), false),
        ("labels", json!({"nul": "a\u{0}b"}), false),
        ("paused", json!(1), false),
    ] {
        n += 1;
        let mut body = json!({ "name": format!("c{n}"), "provider": "kind" });
        body[field] = value.clone();
        let answer = site.http.post("/api/clusters", body).await;
        let expected = if fits { 202 } else { 422 };
        assert_eq!(answer.status, expected, "{field} {value}: {}", answer.text);
    }
    for (name, provider, fits) in [
        ("n".repeat(32), "k3d", true),
        ("n".repeat(33), "k3d", false),
        ("m".repeat(50), "kind", true),
        ("m".repeat(51), "kind", false),
        ("a-".into(), "kind", false),
        ("-a".into(), "kind", false),
        (String::new(), "kind", false),
        ("a\u{0}".into(), "kind", false),
        ("../x".into(), "kind", false),
    ] {
        let body = json!({ "name": name, "provider": provider });
        let answer = site.http.post("/api/clusters", body).await;
        assert_eq!(
            answer.status,
            if fits { 202 } else { 422 },
            "{name} {provider}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn a_host_port_cannot_be_declared_twice() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let same =
        json!({ "name": "same", "provider": "k3d", "http_port": 18443, "https_port": 18443 });
    for path in ["/api/clusters", "/api/clusters?dry_run=true"] {
        let errors = site.http.post(path, same.clone()).await.is(422).errors();
        let message = "http_port and https_port are both 18443: use a port of its own for each";
        assert_eq!(errors, [format!("body.https_port: {message}")], "{path}");
    }
    let errors = site
        .http
        .patch("/api/clusters/dev", json!({ "pf_port": 18080 }))
        .await
        .is(422)
        .errors();
    assert!(
        errors[0].contains("pf_port and http_port are both 18080"),
        "{errors:?}"
    );
    let fine = json!({ "node_port": 18080 });
    site.http.patch("/api/clusters/dev", fine).await.is(200);
    assert_eq!(
        site.sql.text("SELECT count(*)::text FROM clusters").await,
        "1"
    );
}

#[tokio::test]
async fn invalid_bodies_are_rejected() {
    let site = quiet_site().await;
    let json = ("content-type", "application/json");
    for body in [
        "",
        "{",
        "null",
        "[]",
        "7",
        "\"x\"",
        "{}",
        "{\"name\":\"a\",\"name\":7}",
        "\u{feff}{}",
        "nul\u{0}",
    ] {
        let answer = site
            .http
            .raw(
                Method::POST,
                "/api/clusters",
                body.to_owned().into(),
                &[json],
            )
            .await;
        assert_eq!(answer.status, 422, "{body:?}: {}", answer.text);
        assert!(!answer.errors().is_empty());
    }
    let invalid = Bytes::from_static(b"{\"name\": \"\xff\xfe\"}");
    site.http
        .raw(Method::POST, "/api/clusters", invalid, &[json])
        .await
        .is(422);
    // Deep nesting must not overflow the stack.
    let deep = "[".repeat(500_000);
    site.http
        .raw(Method::POST, "/api/clusters", deep.into(), &[json])
        .await
        .is(422);
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(3 << 20));
    let answer = site
        .http
        .raw(Method::POST, "/api/clusters", large.into(), &[json])
        .await
        .is(413);
    assert!(!answer.detail().is_empty());
    let form = ("content-type", "application/x-www-form-urlencoded");
    let answer = site
        .http
        .raw(
            Method::POST,
            "/api/clusters",
            "name=a&provider=k3d".into(),
            &[form],
        )
        .await
        .is(415);
    assert!(answer.detail().contains("application/json"));
    assert_eq!(
        site.sql.text("SELECT count(*)::text FROM clusters").await,
        "0"
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_rejected() {
    let site = quiet_site().await;
    site.declare("dev").await;
    for path in [
        "/api",
        "/api/",
        "/api/nonsense",
        "/api/clusters/",
        "/api/clusters/dev/nonsense",
        "/api/clusters/..%2f..%2fetc%2fpasswd",
        "/api/clusters/..%2f..%2fetc%2fpasswd/log",
        "/api/clusters/%00/log",
        "/api/clusters/%ff",
        "/api/clusters/DEV",
        "/api/clusters/dev'%20OR%20'1'='1",
        "/api/tasks/reconcile-..%2f..%2fx",
        "/api/tasks/%ff",
    ] {
        let answer = site.http.get(path).await;
        assert!(
            [404, 400, 422].contains(&answer.status),
            "{path}: {} {}",
            answer.status,
            answer.text
        );
        assert!(!answer.detail().is_empty(), "{path}");
    }
    for (method, path) in [
        (Method::PUT, "/api/clusters/dev"),
        (Method::DELETE, "/api/clusters"),
        (Method::POST, "/api/health"),
    ] {
        let answer = site.http.send(method, path, None, &[]).await.is(405);
        assert!(!answer.detail().is_empty(), "{path}");
    }
    assert_eq!(
        site.http.get("/api/clusters/dev").await.json()["generation"],
        1
    );
}

#[tokio::test]
async fn an_invalid_query_names_its_field() {
    let site = quiet_site().await;
    site.declare("dev").await;
    for (path, field) in [
        ("/api/clusters?q=%00", "q"),
        ("/api/clusters?limit=5&reason=a%00b", "reason"),
        ("/api/clusters?actuel=failed", "actuel"),
        ("/api/events?actor=%00", "actor"),
        ("/api/events?cluster=%00", "cluster"),
        ("/api/clusters/dev/events?actor=%00", "actor"),
        ("/api/clusters/dev/log?follows=true", "follows"),
        (
            "/api/clusters/dev/revisions/diff?from=1&to=1&form=1",
            "form",
        ),
    ] {
        let errors = site.http.get(path).await.is(422).errors();
        let named = format!("query.{field}: ");
        assert!(errors[0].starts_with(&named), "{path}: {errors:?}");
    }
    // A misspelt dry run must not be executed.
    let body = json!({ "name": "checked", "provider": "k3d" });
    let misspelt = site.http.post("/api/clusters?dryrun=true", body).await;
    assert!(misspelt.is(422).errors()[0].starts_with("query.dryrun: "));
    assert_eq!(
        site.sql.text("SELECT count(*)::text FROM clusters").await,
        "1"
    );
    // The search ignores case: names are lower-case.
    let found = site.http.get("/api/clusters?q=DEV").await.is(200).json();
    assert_eq!(found[0]["name"], "dev");
}

#[tokio::test]
async fn the_management_cluster_cannot_be_declared() {
    let site = quiet_site().await;
    let devops = json!({ "name": "devops", "provider": "k3d" });
    let fine = json!({ "name": "fine", "provider": "k3d" });
    for (path, body) in [
        ("/api/clusters", devops.clone()),
        ("/api/clusters?dry_run=true", devops.clone()),
        ("/api/batch", json!({ "create": [fine, devops] })),
    ] {
        let answer = site.http.post(path, body).await.is(403);
        assert!(answer.detail().contains("devops"), "{}", answer.text);
    }
    assert_eq!(
        site.sql.text("SELECT count(*)::text FROM clusters").await,
        "0"
    );
    // With a row, the name is in use.
    site.sql.declare("devops").await;
    let answer = site.http.post("/api/clusters", devops).await.is(409);
    assert!(answer.detail().contains("already exists"));
}

#[tokio::test]
async fn the_page_is_read_only_and_json_is_case_insensitive() {
    let site = quiet_site().await;
    for path in ["/", "/clusters/dev", "/assets/app.js", "/apiclusters"] {
        let answer = site.http.send(Method::POST, path, None, &[]).await;
        assert_eq!(answer.is(405).header("allow"), "GET,HEAD", "{path}");
        site.http.send(Method::HEAD, path, None, &[]).await.is(200);
    }
    let shouted = ("content-type", "Application/JSON; charset=UTF-8");
    let body = "{\"name\": \"dev\", \"provider\": \"k3d\"}";
    site.http
        .raw(Method::POST, "/api/clusters", body.into(), &[shouted])
        .await
        .is(202);
}

#[tokio::test]
async fn hostile_values_are_only_data() {
    let site = quiet_site().await;
    let evil = "'; DROP TABLE clusters; --";
    let body = json!({ "name": "dev", "provider": "k3d", "labels": { "note": evil } });
    site.http.post("/api/clusters", body).await.is(202);
    for query in ["q", "reason", "sort", "selector", "actual"] {
        let path = format!("/api/clusters?{query}=%27%3B%20DROP%20TABLE%20clusters%3B%20--");
        let answer = site.http.get(&path).await;
        assert!(
            [200, 422].contains(&answer.status),
            "{path}: {}",
            answer.text
        );
    }
    site.http
        .get("/api/events?actor=%27%3B%20DROP%20TABLE%20clusters%3B%20--")
        .await
        .is(200);
    let long = "a,".repeat(3000);
    site.http
        .get(&format!("/api/clusters?selector={long}"))
        .await;
    let dev = site.http.get("/api/clusters/dev").await.is(200).json();
    assert_eq!(dev["labels"]["note"], evil);
}
