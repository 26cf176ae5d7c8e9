//! SQL on a session: statements, values, and the state of a cluster.

use std::borrow::Borrow;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::FromSqlOwned;

use super::database::Database;
use super::eventually::eventually;

/// Long enough for a busy machine; a passing test never waits this long.
pub const TIMEOUT: Duration = Duration::from_secs(40);

/// What tests do on a session, or on a new one for each statement. Every method panics with the
/// statement on an error.
pub trait Sql {
    /// The session of the next statement.
    async fn session(&self) -> impl Borrow<Client>;

    /// Runs statements.
    async fn run(&self, statements: &str) {
        if let Err(error) = self
            .session()
            .await
            .borrow()
            .batch_execute(statements)
            .await
        {
            panic!("{error:?} in: {statements}");
        }
    }

    /// Runs a statement that must be refused; returns the server's message.
    async fn refused(&self, statement: &str) -> String {
        let session = self.session().await;
        let done = session.borrow().batch_execute(statement).await;
        let error = done.expect_err(statement);
        let refusal = error.as_db_error().expect("an error from the server");
        refusal.message().to_owned()
    }

    /// The value that a query returns.
    async fn value<T: FromSqlOwned>(&self, query: &str) -> T {
        match self.session().await.borrow().query_one(query, &[]).await {
            Ok(row) => row.get(0),
            Err(error) => panic!("{error:?} in: {query}"),
        }
    }

    /// The text that a query returns; empty for NULL and for no row.
    async fn text(&self, query: &str) -> String {
        match self.session().await.borrow().query_opt(query, &[]).await {
            Ok(row) => row.and_then(|row| row.get(0)).unwrap_or_default(),
            Err(error) => panic!("{error:?} in: {query}"),
        }
    }

    /// The number that a query returns.
    async fn number(&self, query: &str) -> i64 {
        self.value(query).await
    }

    /// Waits until a query returns this text.
    async fn wait_text(&self, query: &str, expected: &str) {
        let awaited = format!("{expected:?} from: {query}");
        eventually(TIMEOUT, &awaited, || async {
            self.text(query).await == expected
        })
        .await;
    }

    /// Waits until a query returns this number.
    async fn wait_number(&self, query: &str, expected: i64) {
        let awaited = format!("{expected} from: {query}");
        eventually(TIMEOUT, &awaited, || async {
            self.number(query).await == expected
        })
        .await;
    }

    /// Declares a cluster.
    async fn declare(&self, name: &str) {
        let insert = "INSERT INTO clusters (name, provider)";
        self.run(&format!("{insert} VALUES ('{name}', 'k3d')"))
            .await;
    }

    /// Declares this many clusters, named by the prefix and a number from 1. Of more than a
    /// hundred the ports are given: choosing them reads the table for each row.
    async fn declare_many(&self, prefix: &str, count: usize) {
        let (columns, values) = match count {
            ..=100 => ("", ""),
            _ => (
                ", pf_port, http_port, https_port",
                ", 1000 + n, 20000 + n, 40000 + n",
            ),
        };
        self.run(&format!(
            "INSERT INTO clusters (name, provider{columns})
             SELECT '{prefix}' || n, 'kind'{values} FROM generate_series(1, {count}) n"
        ))
        .await;
    }

    /// Changes the desired state of a cluster.
    async fn desire(&self, name: &str, desired: &str) {
        let update = format!("UPDATE clusters SET desired_state = '{desired}'");
        self.run(&format!("{update} WHERE name = '{name}'")).await;
    }

    /// `DESIRED ACTUAL` of a cluster, or `gone`.
    async fn state(&self, name: &str) -> String {
        let query = "SELECT desired_state || ' ' || actual_state FROM clusters WHERE name =";
        match self.text(&format!("{query} '{name}'")).await {
            state if state.is_empty() => "gone".into(),
            state => state,
        }
    }

    /// Waits until a cluster has this state.
    async fn wait_state(&self, name: &str, expected: &str) {
        let awaited = format!("cluster {name}: {expected}");
        eventually(TIMEOUT, &awaited, || async {
            self.state(name).await == expected
        })
        .await;
    }
}

impl Sql for Client {
    async fn session(&self) -> impl Borrow<Client> {
        self
    }
}

impl Sql for Database {
    async fn session(&self) -> impl Borrow<Client> {
        self.connect().await
    }
}
