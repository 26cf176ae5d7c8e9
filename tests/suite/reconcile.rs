//! The daemon end to end: the real binary, real Postgres, real commands.
//! The oracle is the rows and the journal that the commands write.

mod caution;
mod desire;
mod failover;
mod health;
mod lifecycle;
mod matrix;
mod outage;
mod ownership;
mod pooler;
mod retries;
mod schema_versions;
mod scripts;
mod selector;
mod wakeups;

use std::time::Duration;

use tokio_postgres::Client;

use crate::kit::{Daemon, Database, Host, eventually, migrated};

/// A migrated database, a host, a daemon on both, and a superuser's session.
struct Scene {
    // Ends first: it uses the rest.
    daemon: Daemon,
    host: Host,
    sql: Client,
    database: Database,
}

/// Long enough for a busy machine; nothing waits that long when all is well.
const SOON: Duration = Duration::from_secs(20);

async fn scene() -> Scene {
    scene_on(Host::new()).await
}

async fn scene_on(host: Host) -> Scene {
    let database = migrated().await;
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    Scene {
        daemon,
        host,
        sql,
        database,
    }
}

impl Scene {
    async fn run(&self, sql: &str) {
        run(&self.sql, sql).await;
    }

    async fn text(&self, sql: &str) -> String {
        text(&self.sql, sql).await
    }

    /// `desired actual`, or `gone`.
    async fn state(&self, name: &str) -> String {
        state(&self.sql, name).await
    }

    async fn until(&self, name: &str, wanted: &str) {
        until(&self.sql, name, wanted).await;
    }
}

async fn run(sql: &Client, statement: &str) {
    if let Err(error) = sql.batch_execute(statement).await {
        panic!("{error:?} in: {statement}");
    }
}

async fn text(sql: &Client, query: &str) -> String {
    let row = sql
        .query_one(query, &[])
        .await
        .unwrap_or_else(|error| panic!("{error:?} in {query}"));
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

async fn state(sql: &Client, name: &str) -> String {
    let query = "SELECT desired_state || ' ' || actual_state FROM clusters WHERE name = $1";
    match sql.query_opt(query, &[&name]).await.unwrap() {
        Some(row) => row.get(0),
        None => "gone".into(),
    }
}

async fn until(sql: &Client, name: &str, wanted: &str) {
    eventually(SOON, &format!("{name} to be {wanted}"), || async {
        state(sql, name).await == wanted
    })
    .await;
}

fn insert(name: &str) -> String {
    format!("INSERT INTO clusters (name, provider) VALUES ('{name}', 'k3d')")
}
