//! Declaring: dry runs, changes with a generation, batches. Nothing is ever
//! written in part.

use hyper::Method;
use serde_json::{Value, json};

use super::{quiet_site, site};
use crate::kit::Sql;

#[tokio::test]
async fn a_dry_run_checks_everything_and_writes_nothing() {
    let site = quiet_site().await;
    site.declare("other").await;
    let body = json!({
        "name": "dev", "provider": "k3d", "http_port": 18080, "register_argocd": false,
        "labels": {"env": "it's"}, "paused": true, "desired_state": "stopped",
    });
    let dry_run = site
        .http
        .post("/api/clusters?dry_run=true", body.clone())
        .await
        .is(200)
        .json();
    assert_eq!(dry_run["valid"], true);
    assert_eq!(dry_run["info"]["name"], "dev");
    let warned: Vec<&str> = dry_run["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["field"].as_str().unwrap())
        .collect();
    assert!(warned.contains(&"http_port"), "{dry_run}");
    assert!(
        dry_run["warnings"].to_string().contains("other"),
        "{dry_run}"
    );
    assert_eq!(
        site.sql
            .text("SELECT string_agg(name, ' ') FROM clusters")
            .await,
        "other"
    );
    // The SQL of the dry run declares the same.
    site.sql.run(dry_run["sql"].as_str().unwrap()).await;
    let by_sql = site.http.get("/api/clusters/dev").await.json();
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&by_sql[field], value, "{field} by {}", dry_run["sql"]);
    }
    assert!(
        dry_run["cli"]
            .as_str()
            .unwrap()
            .starts_with("kindler create dev --provider k3d"),
        "{dry_run}"
    );
    let taken = json!({ "name": "other", "provider": "k3d" });
    site.http
        .post("/api/clusters?dry_run=true", taken)
        .await
        .is(409);
    let bad = json!({ "name": "UPPER", "provider": "k3d" });
    site.http
        .post("/api/clusters?dry_run=true", bad)
        .await
        .is(422);
}

#[tokio::test]
async fn a_change_reaches_the_row_and_the_audit_log() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let before = site.http.get("/api/clusters/dev").await;
    assert_eq!(before.header("etag"), "\"1\"");
    let change = json!({
        "cluster_subnet": "10.120.0.0/16", "node_port": 31001, "pf_port": 19101, "http_port": 18101, "https_port": 18501,
        "register_portainer": false, "haproxy_route": false, "register_argocd": false,
        "labels": {"env": "prod", "team": "a"}, "paused": true, "desired_state": "stopped", "generation": 1,
    });
    let answer = site
        .http
        .patch("/api/clusters/dev", change.clone())
        .await
        .is(200);
    let info = answer.json();
    for (field, value) in change.as_object().unwrap() {
        if field != "generation" {
            assert_eq!(&info[field], value, "{field}");
        }
    }
    assert_eq!(answer.header("etag"), format!("\"{}\"", info["generation"]));
    // Null removes a label, an empty subnet removes the subnet.
    let change = json!({ "labels": {"team": null, "tier": "1"}, "cluster_subnet": "" });
    let info = site
        .http
        .patch("/api/clusters/dev", change)
        .await
        .is(200)
        .json();
    assert_eq!(info["labels"], json!({"env": "prod", "tier": "1"}));
    assert_eq!(info["cluster_subnet"], Value::Null);
    let actors = "SELECT string_agg(DISTINCT actor, ' ') FROM cluster_events";
    assert_eq!(site.sql.text(actors).await, "api");
}

#[tokio::test]
async fn an_invalid_change_is_rejected_as_a_whole() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let change = json!({ "name": "x", "provider": "kind", "http_port": 80, "desired_state": "absent", "colour": 1, "labels": {"a": 1} });
    let mut errors = site
        .http
        .patch("/api/clusters/dev", change)
        .await
        .is(422)
        .errors();
    errors.sort();
    let fields: Vec<&str> = errors
        .iter()
        .map(|error| error.split(": ").next().unwrap())
        .collect();
    let expected = [
        "body.colour",
        "body.desired_state",
        "body.http_port",
        "body.labels",
        "body.name",
        "body.provider",
    ];
    assert_eq!(fields, expected);
    assert!(
        errors[2].contains("1024") && errors[2].contains("65535"),
        "{errors:?}"
    );
    assert_eq!(
        site.http.get("/api/clusters/dev").await.json()["generation"],
        1
    );
}

#[tokio::test]
async fn label_changes_respect_the_limit_in_total() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let labels = |from: usize, to: usize, value: Value| {
        let all = (from..to).map(|n| (format!("k{n}"), value.clone()));
        json!({ "labels": all.collect::<serde_json::Map<_, _>>() })
    };
    let path = "/api/clusters/dev";
    site.http
        .patch(path, labels(0, 60, json!("v")))
        .await
        .is(200);
    let answer = site
        .http
        .patch(path, labels(60, 65, json!("v")))
        .await
        .is(422);
    assert!(
        answer.errors()[0].contains("use at most 64"),
        "{}",
        answer.text
    );
    site.http
        .patch(path, labels(60, 64, json!("v")))
        .await
        .is(200);
    // Present labels can be changed and removed, even above the limit.
    site.sql
        .run("UPDATE clusters SET labels = labels || jsonb_build_object('x', '1', 'y', '1')")
        .await;
    site.http
        .patch(path, labels(0, 10, json!("w")))
        .await
        .is(200);
    site.http
        .patch(path, labels(0, 10, Value::Null))
        .await
        .is(200);
    let count = "SELECT count(*)::text FROM jsonb_object_keys((SELECT labels FROM clusters))";
    assert_eq!(site.sql.text(count).await, "56");
}

#[tokio::test]
async fn two_different_generations_are_rejected() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let body = || Some(json!({ "generation": 1, "pf_port": 20000 }));
    let path = "/api/clusters/dev";
    let other = site
        .http
        .send(Method::PATCH, path, body(), &[("if-match", "\"7\"")])
        .await
        .is(422);
    assert!(other.errors()[0].starts_with("body.generation: "));
    site.http
        .send(Method::PATCH, path, body(), &[("if-match", "\"1\"")])
        .await
        .is(200);
}

#[tokio::test]
async fn one_of_many_concurrent_changes_wins() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let tries = (0..16).map(|n| {
        let http = site.http;
        tokio::spawn(async move {
            if n % 2 == 0 {
                let body = json!({ "http_port": 20000 + n, "generation": 1 });
                http.patch("/api/clusters/dev", body).await
            } else {
                let body = Some(json!({ "http_port": 20000 + n }));
                http.send(
                    Method::PATCH,
                    "/api/clusters/dev",
                    body,
                    &[("if-match", "\"1\"")],
                )
                .await
            }
        })
    });
    let (mut won, mut lost) = (Vec::new(), 0);
    for answer in tries.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        match answer.status {
            200 => won.push(answer.json()["http_port"].clone()),
            409 => {
                lost += 1;
                assert_eq!(answer.json()["current"]["generation"], 2, "{}", answer.text);
            }
            _ => panic!("{} {}", answer.status, answer.text),
        }
    }
    assert_eq!((won.len(), lost), (1, 15));
    assert_eq!(
        site.http.get("/api/clusters/dev").await.json()["http_port"],
        won[0]
    );
    let bad = site
        .http
        .send(
            Method::PATCH,
            "/api/clusters/dev",
            Some(json!({})),
            &[("if-match", "abc")],
        )
        .await;
    bad.is(422);
}

#[tokio::test]
async fn a_batch_is_declared_as_a_whole() {
    let site = quiet_site().await;
    site.declare("old").await;
    let body = json!({
        "create": [{ "name": "a", "provider": "k3d" }, { "name": "b", "provider": "kind", "http_port": 18200 }],
        "delete": ["old"],
    });
    let tasks = site.http.post("/api/batch", body).await.is(202).json();
    let ids: Vec<&str> = tasks["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["task_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["reconcile-a", "reconcile-b", "reconcile-delete-old"]);
    assert_eq!(
        site.sql
            .text(
                "SELECT string_agg(name || ' ' || desired_state, ', ' ORDER BY name) FROM clusters"
            )
            .await,
        "a present, b present, old absent"
    );
}

#[tokio::test]
async fn an_invalid_batch_writes_nothing() {
    let site = quiet_site().await;
    site.declare("old").await;
    site.sql
        .run("INSERT INTO clusters (name, provider, protected) VALUES ('safe', 'k3d', true)")
        .await;
    let rows = "SELECT string_agg(name || xmin::text, ' ' ORDER BY name) || (SELECT count(*) FROM cluster_events) FROM clusters";
    let before = site.sql.text(rows).await;
    let fine = json!({ "name": "fine", "provider": "k3d" });
    for (body, status, part) in [
        (
            json!({ "create": [fine, { "name": "x", "provider": "k3d", "http_port": 1 }] }),
            422,
            "\"create\",1,\"http_port\"",
        ),
        (json!({ "create": [fine, 7] }), 422, "\"create\",1"),
        (
            json!({ "create": [fine], "delete": ["UPPER"] }),
            422,
            "\"delete\",0",
        ),
        (
            json!({ "create": [fine], "delete": [7] }),
            422,
            "\"delete\",0",
        ),
        (json!({ "create": fine }), 422, "create"),
        (json!({}), 422, "1 to 500"),
        (json!({ "create": [fine], "more": [] }), 422, "more"),
        (
            json!({ "create": [fine, { "name": "old", "provider": "k3d" }] }),
            409,
            "old",
        ),
        (
            json!({ "create": [fine, fine] }),
            422,
            "\"create\",1,\"name\"],\"msg\":\"fine is named twice",
        ),
        (
            json!({ "delete": ["old", "old"] }),
            422,
            "\"delete\",1],\"msg\":\"old is named twice",
        ),
        (
            json!({ "create": [fine], "delete": ["fine"] }),
            422,
            "\"delete\",0],\"msg\":\"fine is named twice",
        ),
        (
            json!({ "create": [fine], "delete": ["old", "nobody", "nowhere"] }),
            404,
            "nobody",
        ),
        (
            json!({ "create": [fine], "delete": ["old", "nobody", "nowhere"] }),
            404,
            "nowhere",
        ),
        (
            json!({ "create": [fine], "delete": ["old", "safe"] }),
            403,
            "safe",
        ),
        (
            json!({ "create": [fine], "delete": ["devops"] }),
            403,
            "devops",
        ),
        (json!({ "delete": vec!["old"; 501] }), 422, "500"),
    ] {
        let answer = site.http.post("/api/batch", body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert!(answer.text.contains(part), "{body}: {}", answer.text);
        assert_eq!(site.sql.text(rows).await, before, "{body}");
    }
}

#[tokio::test]
async fn the_daemon_applies_a_changed_spec() {
    let site = site().await;
    site.declare("dev").await;
    site.until("dev", "actual_state", "running").await;
    let info = site
        .http
        .patch("/api/clusters/dev", json!({ "http_port": 18222 }))
        .await
        .is(200)
        .json();
    assert_eq!(info["generation"], 2);
    let path = "/api/clusters/dev";
    crate::kit::eventually(super::SOON, "the change to be applied", || async {
        let info = site.http.get(path).await.json();
        info["settled"] == true && info["observed_generation"] == 2
    })
    .await;
    assert_eq!(site.host.started("dev"), ["create", "create"]);
}
