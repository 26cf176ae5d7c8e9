//! The schema in a real Postgres: takeover, triggers, roles, costs.

mod cancelled;
pub mod claims;
mod deletions;
mod due;
mod feed;
mod fence;
mod ground;
mod identity;
mod interrupted;
pub mod isolation;
mod migrations;
mod placing;
mod ports;
mod releases;
mod roles;
mod spec;
pub mod takeover;
mod times;
mod tokens;
mod triggers;
mod unreadable;

use std::time::Duration;

use kindler::core::database::Database as Url;
use kindler::store::{Migrated, migrate};
use tokio_postgres::Client;

use crate::kit::{Database, Sql, eventually};

/// A migrated database and a superuser's connection to it.
async fn migrated() -> (Database, Client) {
    let database = crate::kit::migrated().await;
    let client = database.connect().await;
    (database, client)
}

async fn run_migration(database: &Database) -> Migrated {
    migrate(&Url::parse(&database.url()).unwrap())
        .await
        .unwrap()
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
