//! Access control of the real server: every route with every kind of credential,
//! sessions, rate limits, and the start on a public address.

mod limits;
mod login;
mod start;
mod walk;

use std::time::Duration;

use hyper::Method;
use kindler::access::{Scope, Secret, TokenName};
use kindler::core::database::Database as Url;
use kindler::store::Store;
use serde_json::{Value, json};

use crate::api::client::{Answer, Client};
use crate::kit::{Daemon, DaemonBuilder, Database, Host, Sql};

/// Deadline of a wait on a busy machine.
const SOON: Duration = Duration::from_secs(20);

const ROLES: &str = include_str!("../../../sql/roles.sql");

const CSRF: (&str, &str) = ("x-kindler-csrf", "1");

/// A server that requires tokens, with its database and host.
struct Guarded {
    // Dropped first: it uses the rest.
    daemon: Daemon,
    // Keeps its directory.
    _host: Host,
    database: Database,
    store: Store,
    http: Client,
}

async fn migrated() -> (Database, Store) {
    let database = crate::kit::migrated().await;
    let url = Url::parse(&database.url()).unwrap();
    (database, Store::new(&url, 2, "owner"))
}

/// An API-only server on every address, with the database role of the API.
async fn guarded() -> Guarded {
    guarded_with(|daemon| daemon.on_every_address()).await
}

async fn guarded_with(settings: impl FnOnce(DaemonBuilder) -> DaemonBuilder) -> Guarded {
    let (database, store) = migrated().await;
    create(&store, "first", Scope::Read).await;
    let host = Host::new();
    let login = format!("page_{}", database.name());
    database.run(ROLES).await;
    database
        .run(&format!(
            "CREATE ROLE \"{login}\" LOGIN IN ROLE kindler_api"
        ))
        .await;
    let url = database.url_as(&login);
    let daemon = Daemon::builder(&url, &host).set("KINDLER_API_ONLY", "true");
    let daemon = settings(daemon).spawn();
    daemon.ready().await;
    let http = Client::to(daemon.port());
    Guarded {
        daemon,
        _host: host,
        database,
        store,
        http,
    }
}

/// Creates a token; returns its secret.
async fn create(store: &Store, name: &str, scope: Scope) -> String {
    let mut random = [0; 32];
    getrandom::fill(&mut random).unwrap();
    let (secret, name) = (Secret::token(random), TokenName::parse(name).unwrap());
    let created = store
        .create_token(&name, &secret.fingerprint(), scope, None)
        .await
        .unwrap();
    assert!(created.is_some(), "{name} is new");
    secret.expose().to_owned()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

impl Guarded {
    async fn token(&self, name: &str, scope: Scope) -> String {
        create(&self.store, name, scope).await
    }

    async fn revoke(&self, name: &str) {
        let name = TokenName::parse(name).unwrap();
        assert!(self.store.revoke_token(&name).await.unwrap().is_some());
    }

    async fn get_as(&self, token: &str, path: &str) -> Answer {
        let credential = bearer(token);
        let headers = [("authorization", &*credential)];
        self.http.send(Method::GET, path, None, &headers).await
    }

    async fn log_in(&self, token: &str) -> Answer {
        let body = json!({ "token": token });
        let path = "/api/login";
        self.http
            .send(Method::POST, path, Some(body), &[CSRF])
            .await
    }

    /// Logs in; returns the cookie as a browser sends it.
    async fn cookie(&self, token: &str) -> String {
        let answer = self.log_in(token).await.is(204);
        cookie_of(&answer)
    }

    async fn who(&self, headers: &[(&str, &str)]) -> Value {
        let path = "/api/session";
        let answer = self.http.send(Method::GET, path, None, headers).await;
        answer.is(200).json()
    }
}

fn cookie_of(answer: &Answer) -> String {
    let set = answer.header("set-cookie");
    let (pair, _) = set.split_once(';').expect("a cookie");
    pair.to_owned()
}
