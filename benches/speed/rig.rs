//! Shared by the sections: a migrated database, waiting for a condition in it, and
//! commands without effects.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use kindler::core::database::Database as Url;
use kindler::store::migrate;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::kit::{Database, Host, PrivateServer, Sql, eventually};

/// Far longer than any measurement; reaching it means a defect.
const BROKEN_AFTER: Duration = Duration::from_secs(300);

/// A database with the schema and no rows.
pub async fn migrated(server: &PrivateServer) -> Database {
    let database = server.database().await;
    migrate(&url(&database)).await.expect("migrate");
    database
}

/// Its URL, parsed by the library.
pub fn url(database: &Database) -> Url {
    Url::parse(&database.url()).expect("the kit's URL is valid")
}

/// Waits until a query returns true; polls rarely enough not to disturb the
/// measurement.
pub async fn until(sql: &Client, condition: &str, params: &[&(dyn ToSql + Sync)]) {
    let condition = sql.prepare(condition).await.expect("prepare a condition");
    eventually(BROKEN_AFTER, "a condition of the database", || async {
        let row = sql.query_one(&condition, params).await;
        row.expect("ask the database").get::<_, bool>(0)
    })
    .await;
}

/// Makes commands of the host exit with 0 (`true`) or 1 (`false`) without effects.
pub fn answer(host: &Host, verbs: &[&str], answer: bool) {
    for verb in verbs {
        let part = host.path().join("part");
        symlink(format!("/bin/{answer}"), &part).expect("link a command");
        fs::rename(part, host.command(verb)).expect("replace a command");
    }
}

/// The machine that the figures belong to.
pub async fn machine(server: &PrivateServer) -> String {
    let database = server.database().await;
    let version: String = database.value("SHOW server_version").await;
    let fsync: String = database.value("SHOW fsync").await;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, Postgres {version} with fsync {fsync}, on a Unix socket")
}
