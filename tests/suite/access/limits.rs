//! Rate limits of invalid credentials, per address and in total; and secrets are
//! never exposed.

use std::fs;
use std::net::Ipv4Addr;

use hyper::Method;
use kindler::access::Scope;
use serde_json::json;

use super::{CSRF, bearer, guarded, guarded_with};
use crate::kit::Sql;

fn wrong(n: usize) -> String {
    format!("kdl_{n:0>43}")
}

#[tokio::test]
async fn only_clients_with_invalid_credentials_are_rate_limited() {
    let site = guarded().await;
    let token = site.token("alice", Scope::Read).await;
    let late = site.token("late", Scope::Read).await;
    site.get_as(&token, "/api/clusters").await.is(200);
    let mut refused = 0;
    for n in 0..30 {
        let answer = if n % 2 == 0 {
            site.get_as(&wrong(n), "/api/clusters").await
        } else {
            site.log_in(&wrong(n)).await
        };
        if answer.status == 429 {
            let after: u64 = answer.header("retry-after").parse().unwrap();
            assert!((1..=3).contains(&after), "{after}");
            assert!(answer.detail().contains("try again in"), "{}", answer.text);
            refused += 1;
        } else {
            answer.is(401);
        }
    }
    assert!((5..=10).contains(&refused), "{refused}");
    // A credential that was valid is exempt; a new one from this address waits.
    site.get_as(&token, "/api/clusters").await.is(200);
    site.get_as(&late, "/api/clusters").await.is(429);
    let credential = bearer(&late);
    let elsewhere = site.http.from(Ipv4Addr::new(127, 0, 0, 2));
    elsewhere
        .send(
            Method::GET,
            "/api/clusters",
            None,
            &[("authorization", &credential)],
        )
        .await
        .is(200);
    // A request without a credential does not count.
    site.http.get("/api/clusters").await.is(401);
    site.http.get("/api/session").await.is(200);
}

#[tokio::test]
async fn a_flood_is_limited_and_spares_valid_sessions() {
    let site = guarded().await;
    let token = site.token("alice", Scope::Read).await;
    site.get_as(&token, "/api/clusters").await.is(200);
    let mut refused = 0;
    // Many at once: on a slow machine single requests would stay below the limit.
    for batch in 0..10_u16 {
        let answers = (0..40).map(async |n| {
            let n = batch * 40 + n;
            let [high, low] = n.to_be_bytes();
            let http = site.http.from(Ipv4Addr::new(127, 2, high, low));
            let credential = bearer(&wrong(n.into()));
            let headers = [("authorization", &*credential)];
            let status = http.status(Method::GET, "/api/clusters", None, &headers);
            status.await
        });
        for status in futures_util::future::join_all(answers).await {
            match status {
                429 => refused += 1,
                other => assert_eq!(other, 401),
            }
        }
    }
    assert!(refused > 0, "the limit is 300 at once, and 10 per second");
    site.get_as(&token, "/api/clusters").await.is(200);
}

#[tokio::test]
async fn no_secret_is_logged_stored_or_returned() {
    let site = guarded_with(|daemon| {
        daemon
            .on_every_address()
            .set("KINDLER_LOG", "trace,tokio_postgres=trace")
    })
    .await;
    let token = site.token("alice", Scope::Admin).await;
    let wrong = wrong(7);
    let cookie = site.cookie(&token).await;
    let credential = bearer(&token);
    let mut answers = String::new();
    for headers in [
        [("authorization", &*credential), CSRF],
        [("cookie", &*cookie), CSRF],
    ] {
        let body = json!({ "name": "dev", "provider": "k3d" });
        let posted = site
            .http
            .send(Method::POST, "/api/clusters", Some(body), &headers);
        answers += &posted.await.text;
        for path in ["/api/tokens", "/api/events", "/api/status", "/api/session"] {
            let answer = site.http.send(Method::GET, path, None, &headers).await;
            answers += &answer.is(200).text;
        }
    }
    answers += &site.get_as(&wrong, "/api/clusters").await.is(401).text;
    answers += &site.log_in(&wrong).await.is(401).text;
    answers += &site.http.get("/metrics").await.is(200).text;
    let events = "SELECT string_agg(e::text, ' ') FROM cluster_events e";
    let events = site.database.text(events).await;
    let tables = "SELECT string_agg(t::text, ' ') FROM kindler_tokens t";
    let tables = site.database.text(tables).await;
    let log = site.daemon.log();
    assert!(log.contains("TRACE"), "the log has the finest level");
    let processes: String = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect();
    assert!(processes.contains("kindler"));
    let cookie = cookie.split_once('=').unwrap().1;
    for secret in [&token[4..], cookie, &wrong[4..]] {
        for (place, text) in [
            ("the log", &log),
            ("the events", &events),
            ("the table", &tables),
            ("an answer", &answers),
            ("the process list", &processes),
        ] {
            assert!(!text.contains(secret), "a secret is in {place}");
        }
    }
}
