//! The schema in a real Postgres: takeover, triggers, roles, costs.

mod cancelled;
pub mod claims;
mod deletions;
mod due;
mod feed;
mod fence;
mod identity;
mod interrupted;
pub mod isolation;
mod migrations;
mod placing;
mod ports;
mod roles;
mod spec;
mod takeover;
mod tokens;
mod triggers;

use std::time::Duration;

use kindler::core::database::Database as Url;
use kindler::store::{Migrated, migrate};
use tokio_postgres::Client;

use crate::kit::{Database, eventually};

/// A migrated database and a superuser's connection to it.
async fn migrated() -> (Database, Client) {
    let database = Database::create().await;
    run_migration(&database).await;
    let client = database.connect().await;
    (database, client)
}

async fn run_migration(database: &Database) -> Migrated {
    migrate(&Url::parse(&database.url()).unwrap())
        .await
        .unwrap()
}

/// The error message of a statement that the server must reject.
async fn refused(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => panic!("accepted: {sql}"),
        Err(error) => error
            .as_db_error()
            .expect("the server's own word")
            .message()
            .to_owned(),
    }
}

async fn text(client: &Client, sql: &str) -> String {
    let row = client
        .query_one(sql, &[])
        .await
        .unwrap_or_else(|error| panic!("{error:?} in {sql}"));
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

async fn number(client: &Client, sql: &str) -> i64 {
    client
        .query_one(sql, &[])
        .await
        .unwrap_or_else(|error| panic!("{error:?} in {sql}"))
        .get(0)
}

/// Number of Kindler's sessions that wait for a lock. Read over a new connection,
/// because an open transaction sees a fixed snapshot of all sessions.
async fn waiting_for_a_lock(database: &Database) -> i64 {
    database
        .value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
             AND application_name = 'kindler' AND wait_event_type = 'Lock'",
        )
        .await
}

async fn one_waits_for_a_lock(database: &Database) {
    eventually(Duration::from_secs(5), "a wait for a lock", || async {
        waiting_for_a_lock(database).await == 1
    })
    .await;
}
