//! A new database for one test.

use std::sync::Arc;

use kindler::core::database::Database as Url;
use kindler::postgres::SUPERUSER;
use kindler::store::{Store, migrate};
use tokio_postgres::{Client, Error};

use super::postgres::{TestServer, connect, shared_server, try_connect};

/// A new database with Kindler's tables.
pub async fn migrated() -> Database {
    Database::create().await.migrate().await
}

/// An empty database for one test. Keep the value as long as the database is used: its
/// drop also drops the database and all connections to it.
#[derive(Debug)]
pub struct Database {
    server: Arc<TestServer>,
    name: String,
}

impl Database {
    /// Creates one on the server that all tests of this process share.
    pub async fn create() -> Self {
        Self::create_on(shared_server().await, "").await
    }

    /// Creates one with this encoding.
    pub async fn create_encoded(encoding: &str) -> Self {
        let options = format!("ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'");
        Self::create_on(shared_server().await, &options).await
    }

    pub(super) async fn create_on(server: Arc<TestServer>, options: &str) -> Self {
        let name = server.make_database(options).await;
        Self { server, name }
    }

    /// The same, with Kindler's tables.
    pub async fn migrate(self) -> Self {
        migrate(&Url::parse(&self.url()).unwrap()).await.unwrap();
        self
    }

    /// Its name, unique on its server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL for the superuser.
    pub fn url(&self) -> String {
        self.url_as(SUPERUSER)
    }

    /// The URL for this user; no user has a password.
    pub fn url_as(&self, user: &str) -> String {
        self.server.url(user, &self.name)
    }

    /// The folder with the server's socket.
    pub fn socket_dir(&self) -> std::path::PathBuf {
        self.server.socket_dir()
    }

    /// Kindler's access to it, with at most this many connections.
    pub fn store(&self, connections: usize) -> Store {
        Store::new(&Url::parse(&self.url()).unwrap(), connections, "test")
    }

    /// A connection of the superuser, on the current runtime.
    pub async fn connect(&self) -> Client {
        connect(&self.url()).await
    }

    /// A connection of this user, on the current runtime.
    pub async fn connect_as(&self, user: &str) -> Client {
        connect(&self.url_as(user)).await
    }

    /// A connection of the superuser, or the error.
    pub async fn try_connect(&self) -> Result<Client, Error> {
        try_connect(&self.url()).await
    }
}

/// Statements that remove a row like a daemon that has verified that the cluster is
/// gone.
pub fn removal(name: &str) -> String {
    format!(
        "UPDATE clusters SET desired_state = 'absent' WHERE name = '{name}';
         INSERT INTO cluster_leases (cluster_name, owner, term, acquired_at, renewed_at, expires_at)
         VALUES ('{name}', 'a test', nextval('cluster_lease_terms'), now(), now(), now() + interval '1 minute');
         SELECT set_config('kindler.fence', term::text, false) FROM cluster_leases WHERE cluster_name = '{name}';
         DELETE FROM clusters WHERE name = '{name}'"
    )
}

impl Drop for Database {
    fn drop(&mut self) {
        self.server.mark_unused(std::mem::take(&mut self.name));
    }
}
