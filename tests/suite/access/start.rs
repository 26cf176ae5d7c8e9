//! The start of the server: a public address needs a live token, and without the
//! database every request fails.

use hyper::Method;
use kindler::access::Scope;
use serde_json::json;

use super::{CSRF, SOON, bearer, create, guarded_with, migrated};
use crate::api::client::Client;
use crate::kit::{Daemon, Host, PrivateServer, Sql, eventually};

/// systemd restarts the daemon after exit code 1, not after 2.
#[tokio::test]
async fn a_used_port_is_no_invalid_setting() {
    let (database, _) = migrated().await;
    let host = Host::new();
    let start = |address: &str| {
        let builder = Daemon::builder(&database.url(), &host);
        builder.set("KINDLER_LISTEN", address).spawn()
    };
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let used = other.local_addr().unwrap().to_string();
    let mut daemon = start(&used);
    assert_eq!(daemon.ended(SOON).await.code(), Some(1));
    assert!(daemon.log().contains("KINDLER_LISTEN"), "{}", daemon.log());
    // An address that this host does not have is one.
    let mut daemon = start("192.0.2.1:8080");
    assert_eq!(daemon.ended(SOON).await.code(), Some(2));
}

#[tokio::test]
async fn a_public_address_needs_a_token_to_start() {
    let (database, store) = migrated().await;
    let host = Host::new();
    let start = || {
        Daemon::builder(&database.url(), &host)
            .on_every_address()
            .spawn()
    };
    let mut daemon = start();
    assert_eq!(daemon.ended(SOON).await.code(), Some(2));
    let log = daemon.log();
    for words in [
        "kindler token create",
        "KINDLER_LISTEN=127.0.0.1",
        "0.0.0.0",
    ] {
        assert!(log.contains(words), "{words} in {log}");
    }
    // An expired token does not count.
    create(&store, "old", Scope::Admin).await;
    database
        .run("UPDATE kindler_tokens SET expires_at = now()")
        .await;
    let mut daemon = start();
    assert_eq!(daemon.ended(SOON).await.code(), Some(2));
    let token = create(&store, "alice", Scope::Read).await;
    let daemon = start();
    daemon.ready().await;
    let http = Client::to(daemon.port());
    http.get("/api/clusters").await.is(401);
    let credential = bearer(&token);
    let headers = [("authorization", &*credential)];
    let answer = http
        .send(Method::GET, "/api/clusters", None, &headers)
        .await;
    answer.is(200);
    assert!(host.journal().is_empty());
}

#[tokio::test]
async fn without_the_database_no_request_authenticates() {
    let server = PrivateServer::create().await;
    let database = server.database().await;
    let url = kindler::core::database::Database::parse(&database.url()).unwrap();
    kindler::store::migrate(&url).await.unwrap();
    let store = kindler::store::Store::new(&url, 1, "owner");
    let token = create(&store, "alice", Scope::Write).await;
    drop(store);
    server.stop_fast().await;
    let host = Host::new();
    let daemon = Daemon::builder(&database.url(), &host)
        .on_every_address()
        .spawn();
    let http = Client::to(daemon.port());
    eventually(SOON, "the server to listen", || async {
        daemon.get("/healthz").await.is_some()
    })
    .await;
    let credential = bearer(&token);
    let headers = [("authorization", &*credential)];
    http.get("/api/clusters").await.is(401);
    let body = json!({ "name": "dev", "provider": "k3d" });
    let path = "/api/clusters";
    let answer = http.send(Method::POST, path, Some(body.clone()), &headers);
    answer.await.is(503);
    let body = json!({ "token": token });
    let answer = http.send(Method::POST, "/api/login", Some(body), &[CSRF]);
    answer.await.is(503);
    http.get("/").await.is(200);
    server.start().await;
    daemon.ready().await;
    let answer = http.send(Method::GET, path, None, &headers).await;
    answer.is(200);
}

#[tokio::test]
async fn loopback_needs_no_token_by_default() {
    let open = guarded_with(|daemon| daemon).await;
    let anonymous = json!({ "auth": "open", "name": null, "scope": null });
    assert_eq!(open.who(&[]).await, anonymous);
    let body = json!({ "name": "dev", "provider": "k3d" });
    open.http.post("/api/clusters", body.clone()).await.is(202);
    // A page of another site is rejected, with or without an origin.
    for header in [
        ("origin", "https://evil.example.org"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let path = "/api/clusters/dev/stop";
        let answer = open.http.send(Method::POST, path, None, &[header]).await;
        answer.is(403);
    }
    let foreign = [("host", "evil.example.org")];
    let rebound = open.http.send(Method::GET, "/api/clusters", None, &foreign);
    rebound.await.is(403);

    let closed = guarded_with(|daemon| daemon.set("KINDLER_AUTH", "required")).await;
    closed.http.get("/api/clusters").await.is(401);
    closed.http.post("/api/clusters", body).await.is(401);
    let token = closed.token("alice", Scope::Write).await;
    closed.get_as(&token, "/api/clusters").await.is(200);
}

#[tokio::test]
async fn required_auth_on_loopback_starts_without_a_token() {
    let (database, store) = migrated().await;
    let host = Host::new();
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_AUTH", "required")
        .spawn();
    daemon.ready().await;
    assert!(
        daemon.log().contains("kindler token create"),
        "{}",
        daemon.log()
    );
    let http = Client::to(daemon.port());
    http.get("/api/clusters").await.is(401);
    let credential = bearer(&create(&store, "alice", Scope::Read).await);
    let headers = [("authorization", &*credential)];
    let answer = http
        .send(Method::GET, "/api/clusters", None, &headers)
        .await;
    answer.is(200);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_use_a_token() {
    let site = guarded_with(|daemon| {
        daemon
            .on_every_address()
            .set("KINDLER_ALLOWED_ORIGINS", "https://ops.example.org")
    })
    .await;
    let credential = bearer(&site.token("ops", Scope::Write).await);
    let asks = [
        ("origin", "https://ops.example.org"),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,content-type",
        ),
    ];
    let path = "/api/clusters";
    let answer = site.http.send(Method::OPTIONS, path, None, &asks).await;
    let answer = answer.is(200);
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, "https://ops.example.org");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    let headers = answer.header("access-control-allow-headers");
    assert!(!headers.contains("csrf") && headers.contains("authorization"));
    let body = json!({ "name": "dev", "provider": "k3d" });
    let with = [asks[0], ("authorization", &*credential)];
    let answer = site
        .http
        .send(Method::POST, path, Some(body.clone()), &with);
    let answer = answer.await.is(202);
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, "https://ops.example.org");
    let exposed = answer
        .header("access-control-expose-headers")
        .to_lowercase();
    for header in ["etag", "link", "retry-after", "x-total-count"] {
        assert!(
            exposed.split(',').any(|one| one.trim() == header),
            "{exposed}"
        );
    }
    let foreign = [
        ("origin", "https://evil.example.org"),
        ("authorization", &*credential),
    ];
    let answer = site
        .http
        .send(Method::POST, path, Some(body), &foreign)
        .await;
    let answer = answer.is(403);
    assert_eq!(answer.header("access-control-allow-origin"), "");
}
