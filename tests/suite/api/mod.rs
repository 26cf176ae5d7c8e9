//! The API: the real binary over real HTTP, on a real Postgres. The tests check
//! the database, not only the response.

mod actions;
mod busy;
mod changing;
pub mod client;
mod contract;
mod description;
mod files;
mod hostile;
mod identity;
mod listing;
mod old_names;
mod ports;
mod races;
mod rights;
mod seed;
mod silent_daemons;
mod socket;
mod steps;
mod stream;
mod tasks;
mod unknown_input;

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{Daemon, DaemonBuilder, Database, Host, PrivateServer, eventually, migrated};

use client::{Answer, Client};

/// Deadline of a wait on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A server with its database and host, and a client of it.
struct Site {
    // Dropped first: it uses the rest.
    daemon: Daemon,
    host: Host,
    sql: tokio_postgres::Client,
    database: Database,
    http: Client,
}

/// A daemon that reconciles.
async fn site() -> Site {
    site_with(|daemon| daemon).await
}

/// An API-only server: only the test changes rows.
async fn quiet_site() -> Site {
    site_with(|daemon| daemon.set("KINDLER_API_ONLY", "true")).await
}

/// The same on a private Postgres, which the test may stop.
async fn site_with_own_postgres() -> (PrivateServer, Site) {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    let quiet = |daemon: DaemonBuilder| daemon.set("KINDLER_API_ONLY", "true");
    let site = site_on(database, quiet).await;
    (server, site)
}

async fn site_with(settings: impl FnOnce(DaemonBuilder) -> DaemonBuilder) -> Site {
    site_on(migrated().await, settings).await
}

async fn site_on(
    database: Database,
    settings: impl FnOnce(DaemonBuilder) -> DaemonBuilder,
) -> Site {
    let host = Host::new();
    let daemon = settings(Daemon::builder(&database.url(), &host)).spawn();
    daemon.ready().await;
    let sql = database.connect().await;
    let http = Client::to(daemon.port());
    Site {
        daemon,
        host,
        sql,
        database,
        http,
    }
}

impl Site {
    async fn declare(&self, name: &str) -> Answer {
        let body = json!({ "name": name, "provider": "k3d" });
        self.http.post("/api/clusters", body).await.is(202)
    }

    async fn until(&self, name: &str, field: &str, wanted: &str) -> Value {
        let path = format!("/api/clusters/{name}");
        eventually(
            SOON,
            &format!("{field} of {name} to be {wanted}"),
            || async {
                let cluster = self.http.get(&path).await.json();
                (cluster[field] == wanted).then_some(cluster)
            },
        )
        .await
    }

    async fn until_gone(&self, name: &str) {
        let path = format!("/api/clusters/{name}");
        eventually(SOON, &format!("{name} to be gone"), || async {
            self.http.get(&path).await.status == 404
        })
        .await;
    }
}
