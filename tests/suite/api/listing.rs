//! Lists: filters, orders, pages, and rows that cannot be decoded.

use serde_json::Value;

use super::{Site, quiet_site};
use crate::kit::Sql;

async fn filled() -> Site {
    let site = quiet_site().await;
    site.sql.run(
        "INSERT INTO clusters (name, provider, created_at, desired_state, actual_state, status_reason, paused, labels) VALUES
         ('alpha', 'k3d',  '2026-01-01', 'present', 'running', 'Healthy', false, '{\"env\": \"prod\", \"team\": \"a\"}'),
         ('beta',  'kind', '2026-01-02', 'stopped', 'stopped', 'Stopped', true,  '{\"env\": \"dev\"}'),
         ('gamma', 'k3d',  '2026-01-03', 'present', 'failed',  'CreateFailed', false, '{\"env\": \"prod\", \"team\": \"b\"}'),
         ('delta', 'k3d',  '2026-01-04', 'absent',  'deleting', 'Deleting', false, '{}')",
    )
    .await;
    site
}

fn names(listed: &Value) -> String {
    let rows = listed.as_array().expect("a bare array").iter();
    let names: Vec<&str> = rows.map(|row| row["name"].as_str().unwrap()).collect();
    names.join(" ")
}

#[tokio::test]
async fn filters_and_orders_select_clusters() {
    let site = filled().await;
    for (query, expected) in [
        ("", "delta gamma beta alpha"),
        ("q=a&sort=name", "alpha beta delta gamma"),
        ("q=ta&sort=name", "beta delta"),
        ("q=%25", ""),
        ("q=_", ""),
        ("provider=kind", "beta"),
        ("desired=present,stopped&sort=-name", "gamma beta alpha"),
        ("actual=failed", "gamma"),
        ("reason=CreateFailed", "gamma"),
        ("paused=true", "beta"),
        ("paused=false&sort=created_at", "alpha gamma delta"),
        ("selector=env%3Dprod&sort=name", "alpha gamma"),
        (
            "selector=env%20in%20(prod,dev),team!%3Db&sort=name",
            "alpha beta",
        ),
        ("selector=!env", "delta"),
        ("selector=team", "gamma alpha"),
        ("selector=team%20notin%20(a)&sort=name", "beta delta gamma"),
        ("sort=-name", "gamma delta beta alpha"),
        ("provider=k3d&actual=running&selector=env%3Dprod", "alpha"),
    ] {
        let answer = site
            .http
            .get(&format!("/api/clusters?{query}"))
            .await
            .is(200);
        assert_eq!(names(&answer.json()), expected, "{query}");
    }
}

#[tokio::test]
async fn pages_have_a_total_and_links_with_the_filter() {
    let site = filled().await;
    let answer = site
        .http
        .get("/api/clusters?sort=name&provider=k3d&limit=2")
        .await
        .is(200);
    assert_eq!(names(&answer.json()), "alpha delta");
    assert_eq!(answer.header("x-total-count"), "3");
    let link = answer.header("link");
    let next = link.split(['<', '>']).nth(1).expect(link);
    let answer = site.http.get(next).await.is(200);
    assert_eq!(names(&answer.json()), "gamma", "{next}");
    assert!(
        !answer.header("link").contains("next"),
        "{}",
        answer.header("link")
    );
    assert!(
        answer.header("link").contains("rel=\"prev\""),
        "{}",
        answer.header("link")
    );
    let beyond = site
        .http
        .get("/api/clusters?limit=2&offset=10")
        .await
        .is(200);
    assert_eq!(names(&beyond.json()), "");
}

#[tokio::test]
async fn an_invalid_filter_names_its_field() {
    let site = quiet_site().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("offset=-1", "offset"),
        ("paused=maybe", "paused"),
        ("sort=colour", "sort"),
        ("actual=asleep", "actual"),
        ("desired=gone", "desired"),
        ("provider=minikube", "provider"),
        ("selector=a%3Db%3Dc", "selector"),
    ] {
        let answer = site
            .http
            .get(&format!("/api/clusters?{query}"))
            .await
            .is(422);
        let errors = answer.errors();
        assert_eq!(errors.len(), 1, "{query}: {errors:?}");
        assert!(
            errors[0].starts_with(&format!("query.{field}: ")),
            "{query}: {errors:?}"
        );
    }
}

#[tokio::test]
async fn an_undecodable_row_does_not_hide_others() {
    let site = filled().await;
    site.sql.run("ALTER TABLE clusters DROP CONSTRAINT clusters_desired_state_is_known; ALTER TABLE clusters DISABLE TRIGGER USER;
              UPDATE clusters SET desired_state = 'dreaming' WHERE name = 'beta'")
        .await;
    let listed = site
        .http
        .get("/api/clusters?sort=name")
        .await
        .is(200)
        .json();
    assert_eq!(names(&listed), "alpha beta delta gamma");
    let why = listed[1]["unreadable"].as_str().expect("a reason");
    assert!(why.contains("dreaming"), "{why}");
}

#[tokio::test]
async fn suggestions_are_free_and_have_the_limits() {
    let site = quiet_site().await;
    site.sql.run("INSERT INTO clusters (name, provider, pf_port, http_port, https_port, subnet) VALUES
              ('a', 'k3d', 19001, 18090, 18443, '10.101.0.0/16'), ('b', 'k3d', 19003, 18092, 18091, '10.102.128.0/24')")
        .await;
    let free = site.http.get("/api/suggest").await.is(200).json();
    for (field, value) in [
        ("node_port", 30080),
        ("pf_port", 19002),
        ("http_port", 18093),
        ("https_port", 18444),
    ] {
        assert_eq!(free[field], value, "{field} in {free}");
    }
    assert_eq!(free["cluster_subnet"], "10.103.0.0/16");
    assert_eq!(free["limits"]["name_max"]["k3d"], 32);
    let name = free["name"].as_str().expect("a free name");
    assert!(!["a", "b"].contains(&name) && !name.is_empty());
}
