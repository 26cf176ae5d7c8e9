//! The API as programs meet it: the real binary over real HTTP, on a real
//! Postgres. The oracle is the database, not the answer.

mod actions;
mod changing;
pub mod client;
mod contract;
mod description;
mod files;
mod hostile;
mod identity;
mod listing;
mod races;
mod rights;
mod seed;
mod socket;
mod steps;
mod strange;
mod stream;
mod tasks;

use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::Client as Sql;

use crate::kit::{Daemon, DaemonBuilder, Database, Host, PrivateServer, eventually, migrated};

use client::{Answer, Client};

/// Long enough for a busy machine; nothing waits that long when all is well.
const SOON: Duration = Duration::from_secs(20);

/// A server, what it stands on, and a client of it.
struct Site {
    // Ends first: it uses the rest.
    daemon: Daemon,
    host: Host,
    sql: Sql,
    database: Database,
    http: Client,
}

/// A daemon that reconciles.
async fn site() -> Site {
    site_with(|daemon| daemon).await
}

/// A server that only declares, so that nothing changes but by the test.
async fn quiet_site() -> Site {
    site_with(|daemon| daemon.set("KINDLER_API_ONLY", "true")).await
}

/// The same on a Postgres that the test may end.
async fn on_a_server_of_its_own() -> (PrivateServer, Site) {
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
    async fn run(&self, sql: &str) {
        if let Err(error) = self.sql.batch_execute(sql).await {
            panic!("{error:?} in: {sql}");
        }
    }

    async fn text(&self, query: &str) -> String {
        let row = self.sql.query_one(query, &[]).await;
        let row = row.unwrap_or_else(|error| panic!("{error:?} in {query}"));
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

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
