//! `If-Match`: no request overwrites a concurrent change.

use hyper::Method;
use serde_json::{Value, json};

use super::client::{Answer, Client};
use super::quiet_site;
use crate::kit::Sql;

/// Every change that accepts a generation.
const CHANGES: [(Method, &str); 8] = [
    (Method::PATCH, ""),
    (Method::DELETE, ""),
    (Method::POST, "/start"),
    (Method::POST, "/stop"),
    (Method::POST, "/pause"),
    (Method::POST, "/resume"),
    (Method::POST, "/retry"),
    (Method::POST, "/rollback"),
];

fn body(path: &str, method: &Method) -> Option<Value> {
    match path {
        "/rollback" => Some(json!({ "generation": 1 })),
        "" if *method == Method::PATCH => Some(json!({ "http_port": 20000 })),
        _ => None,
    }
}

async fn send(http: Client, name: &str, change: &(Method, &str), tags: &[&str]) -> Answer {
    let (method, path) = change;
    let headers: Vec<_> = tags.iter().map(|tag| ("if-match", *tag)).collect();
    let url = format!("/api/clusters/{name}{path}");
    http.send(method.clone(), &url, body(path, method), &headers)
        .await
}

#[tokio::test]
async fn a_request_with_an_old_generation_changes_nothing() {
    let site = quiet_site().await;
    let row = "SELECT string_agg(name || xmin::text, ' ' ORDER BY name) || (SELECT count(*) FROM cluster_events) FROM clusters";
    for (n, change) in CHANGES.iter().enumerate() {
        let name = &format!("c{n}");
        site.declare(name).await;
        let path = format!("/api/clusters/{name}");
        site.http
            .patch(&path, json!({ "pf_port": 19500 }))
            .await
            .is(200);
        let before = site.sql.text(row).await;
        let lost = send(site.http, name, change, &["\"1\""]).await.is(409);
        assert_eq!(lost.json()["current"]["generation"], 2, "{change:?}");
        for wrong in [
            &["abc"][..],
            &["W/\"2\""],
            &["\"1\", \"2\""],
            &["\"2\"", "\"1\""],
        ] {
            let errors = send(site.http, name, change, wrong).await.is(422).errors();
            assert!(
                errors[0].starts_with("header.If-Match: "),
                "{change:?}: {errors:?}"
            );
        }
        assert_eq!(site.sql.text(row).await, before, "{change:?}");
        let done = send(site.http, name, change, &["\"2\""]).await;
        assert!([200, 202].contains(&done.status), "{change:?}: {done:?}");
        send(site.http, "nobody", change, &["\"2\""]).await.is(404);
    }
    site.declare("any").await;
    for change in &CHANGES {
        let done = send(site.http, "any", change, &["*"]).await;
        assert!([200, 202].contains(&done.status), "{change:?}: {done:?}");
    }
}

#[tokio::test]
async fn one_of_concurrent_delete_stop_and_edit_wins() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let racers = [&CHANGES[0], &CHANGES[1], &CHANGES[3]].into_iter();
    let tries = racers.cycle().take(18).map(|change| {
        let http = site.http;
        tokio::spawn(async move { send(http, "dev", change, &["\"1\""]).await })
    });
    let (mut won, mut lost) = (0, 0);
    for answer in tries.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        match answer.status {
            200 | 202 => won += 1,
            409 => {
                lost += 1;
                assert_eq!(answer.json()["current"]["generation"], 2, "{}", answer.text);
            }
            _ => panic!("{} {}", answer.status, answer.text),
        }
    }
    assert_eq!((won, lost), (1, 17));
    assert_eq!(
        site.sql.text("SELECT generation::text FROM clusters").await,
        "2"
    );
}

#[tokio::test]
async fn a_rollback_accepts_only_one_generation() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let path = "/api/clusters/dev/rollback";
    let both = |tag| {
        let body = Some(json!({ "generation": 1, "if_generation": 1 }));
        site.http.send(Method::POST, path, body, tag)
    };
    let errors = both(&[("if-match", "\"7\"")]).await.is(422).errors();
    assert!(errors[0].starts_with("body.if_generation: "), "{errors:?}");
    both(&[("if-match", "\"1\"")]).await.is(200);
}
