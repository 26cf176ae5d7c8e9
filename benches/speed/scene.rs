//! What the sections share: a migrated database, waiting for a condition of
//! it, and commands that do nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use kindler::core::database::Database as Url;
use kindler::store::migrate;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::kit::{Database, Host, PrivateServer, eventually};

/// Far beyond what anything here takes; passing it means that it is broken.
const BROKEN_AFTER: Duration = Duration::from_secs(300);

/// A database with the schema and no rows.
pub async fn migrated(server: &PrivateServer) -> Database {
    let database = server.database().await;
    migrate(&url(&database)).await.expect("migrate");
    database
}

/// Its URL, as the library wants it.
pub fn url(database: &Database) -> Url {
    Url::parse(&database.url()).expect("the kit's URL is valid")
}

/// Waits until a query says true; looks rarely enough not to disturb.
pub async fn until(sql: &Client, condition: &str, params: &[&(dyn ToSql + Sync)]) {
    let condition = sql.prepare(condition).await.expect("prepare a condition");
    eventually(BROKEN_AFTER, "a condition of the database", || async {
        let row = sql.query_one(&condition, params).await;
        row.expect("ask the database").get::<_, bool>(0)
    })
    .await;
}

/// Lets commands of the host do nothing and end with 0 (`true`) or 1 (`false`).
pub fn answer(host: &Host, verbs: &[&str], answer: bool) {
    for verb in verbs {
        let part = host.path().join("part");
        symlink(format!("/bin/{answer}"), &part).expect("link a command");
        fs::rename(part, host.command(verb)).expect("replace a command");
    }
}

/// What the figures belong to.
pub async fn machine(server: &PrivateServer) -> String {
    let database = server.database().await;
    let version: String = database.value("SHOW server_version").await;
    let fsync: String = database.value("SHOW fsync").await;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, Postgres {version} with fsync {fsync}, on a Unix socket")
}
