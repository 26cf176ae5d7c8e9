//! Sessions and their end: the next request fails, and open streams end within
//! seconds.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use hyper::Method;
use kindler::access::Scope;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::{CSRF, SOON, bearer, guarded, guarded_with};
use crate::kit::Sql;

#[tokio::test]
async fn a_session_cookie_is_http_only_and_not_the_token() {
    let site = guarded().await;
    let anonymous = json!({ "auth": "token", "name": null, "scope": null });
    assert_eq!(site.who(&[]).await, anonymous);
    let token = site.token("alice", Scope::Write).await;
    let answer = site.log_in(&token).await.is(204);
    let set = answer.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Secure"), "this is no TLS: {set}");
    assert!(!set.contains(&token[4..]), "the cookie is the token");
    let cookie = super::cookie_of(&answer);
    let kept = "SELECT string_agg(s::text, ' ') FROM kindler_sessions s";
    let kept = site.database.text(kept).await;
    assert!(!kept.contains(cookie.split_once('=').unwrap().1), "{kept}");

    let credential = [("cookie", &*cookie), CSRF];
    let who = json!({ "auth": "token", "name": "alice", "scope": "write" });
    assert_eq!(site.who(&credential).await, who);
    let body = json!({ "name": "dev", "provider": "k3d" });
    site.http
        .send(Method::POST, "/api/clusters", Some(body), &credential)
        .await
        .is(202);
    let actor = "SELECT actor FROM cluster_events WHERE kind = 'declared'";
    assert_eq!(site.database.text(actor).await, "api:alice");

    let out = site
        .http
        .send(Method::POST, "/api/logout", None, &credential);
    let out = out.await.is(204);
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    let answer = site
        .http
        .send(Method::GET, "/api/clusters", None, &credential);
    let answer = answer.await.is(401);
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    assert_eq!(site.who(&credential).await, anonymous);
    site.get_as(&token, "/api/clusters").await.is(200);
}

#[tokio::test]
async fn another_site_cannot_log_a_user_in_or_out() {
    let site = guarded().await;
    let token = site.token("alice", Scope::Write).await;
    let cookie = site.cookie(&token).await;
    let body = json!({ "token": token });
    let path = "/api/login";
    site.http.post(path, body.clone()).await.is(403);
    let foreign = [CSRF, ("origin", "https://evil.example.org")];
    site.http
        .send(Method::POST, path, Some(body.clone()), &foreign)
        .await
        .is(403);
    let form = ("content-type", "text/plain");
    site.http
        .raw(Method::POST, path, body.to_string().into(), &[form, CSRF])
        .await
        .is(415);
    let credential = [("cookie", &*cookie)];
    site.http
        .send(Method::POST, "/api/logout", None, &credential)
        .await
        .is(403);
    assert_eq!(site.who(&credential).await["name"], "alice");
    // Behind a TLS proxy the cookie is secure.
    let tls = [CSRF, ("x-forwarded-proto", "https")];
    let answer = site.http.send(Method::POST, path, Some(body), &tls).await;
    assert!(answer.header("set-cookie").ends_with("; Secure"));
}

#[tokio::test]
async fn a_revoked_token_ends_its_requests_and_streams() {
    let site = guarded().await;
    let declare = "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d')";
    site.database.run(declare).await;
    let other = site.token("other", Scope::Read).await;
    let token = site.token("alice", Scope::Read).await;
    let (credential, cookie) = (bearer(&token), site.cookie(&token).await);
    let by_token = [("authorization", &*credential)];
    let by_cookie = [("cookie", &*cookie)];
    let (by_other, log) = (bearer(&other), "/api/clusters/dev/log?follow=true");
    let mut kept = site
        .http
        .events_with("/api/stream", &[("authorization", &by_other)])
        .await;
    kept.until("synced").await;
    let mut streams = Vec::new();
    for headers in [by_token, by_cookie] {
        let mut stream = site.http.events_with("/api/stream", &headers).await;
        stream.until("synced").await;
        streams.push(stream);
        streams.push(site.http.events_with(log, &headers).await);
    }
    let mut sockets = Vec::new();
    for (name, value) in [by_token[0], by_cookie[0]] {
        let url = format!("ws://127.0.0.1:{}/ws/tasks", site.daemon.port());
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert(
            hyper::header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            value.parse().unwrap(),
        );
        let stream = TcpStream::connect(("127.0.0.1", site.daemon.port()));
        let (socket, _) = client_async(request, stream.await.unwrap()).await.unwrap();
        sockets.push(socket);
    }

    site.revoke("alice").await;
    let revoked = Instant::now();
    site.get_as(&token, "/api/clusters").await.is(401);
    let next = site.http.send(Method::GET, "/api/status", None, &by_cookie);
    next.await.is(401);
    for stream in &mut streams {
        while stream.next().await.is_some() {}
    }
    for socket in &mut sockets {
        let ended = async { while let Some(Ok(_)) = socket.next().await {} };
        timeout(SOON, ended).await.expect("the socket ends");
    }
    let took = revoked.elapsed();
    println!("open streams ended {took:?} after their token");
    assert!(took < Duration::from_secs(10), "{took:?}");
    // The stream of the other token stays open.
    site.database
        .run("UPDATE clusters SET http_port = 18777")
        .await;
    assert_eq!(kept.until("upsert").await.json()["http_port"], 18777);
}

#[tokio::test]
async fn the_end_of_a_session_ends_its_streams() {
    let site = guarded().await;
    let token = site.token("alice", Scope::Read).await;
    let end_all = "UPDATE kindler_sessions SET expires_at = now()";
    for by_hand in [true, false] {
        let cookie = site.cookie(&token).await;
        let credential = [("cookie", &*cookie), CSRF];
        let mut stream = site.http.events_with("/api/stream", &credential).await;
        stream.until("synced").await;
        if by_hand {
            let out = site
                .http
                .send(Method::POST, "/api/logout", None, &credential);
            out.await.is(204);
        } else {
            site.database.run(end_all).await;
        }
        while stream.next().await.is_some() {}
    }
}

#[tokio::test]
async fn a_websocket_of_another_site_is_rejected() {
    let site = guarded_with(|daemon| {
        daemon
            .on_every_address()
            .set("KINDLER_ALLOWED_ORIGINS", "https://ops.example.org")
    })
    .await;
    let token = bearer(&site.token("alice", Scope::Read).await);
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("authorization", &*token),
    ];
    let own = format!("http://127.0.0.1:{}", site.daemon.port());
    for (origin, status) in [
        (&*own, 101),
        ("https://ops.example.org", 101),
        ("https://evil.example.org", 403),
        ("null", 403),
    ] {
        let headers: Vec<_> = upgrade.into_iter().chain([("origin", origin)]).collect();
        let found = site.http.status(Method::GET, "/ws/tasks", None, &headers);
        assert_eq!(found.await, status, "{origin}");
    }
}
