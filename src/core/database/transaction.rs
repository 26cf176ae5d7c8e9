//! Transactions of a few statements: each sees what was committed before it.

use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::{IsolationLevel, Row};

use super::pool::AfterRefusal;
use super::{Connections, DatabaseError, Param, typed};

/// Begins a transaction whose statements each see what was committed before
/// them, as one must that counts after it has waited for a lock. The database
/// may have another default, and a pooler may forget what the session set.
pub(crate) async fn begin(
    client: &mut ClientWrapper,
) -> Result<Transaction<'_>, tokio_postgres::Error> {
    let transaction = client.build_transaction();
    transaction
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .await
}

impl Connections {
    /// Runs one statement of a transaction and returns its rows; prepared, where
    /// sessions are proven to stay ours.
    pub(crate) async fn rows_in(
        &self,
        transaction: &Transaction<'_>,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if self.has_own_sessions() {
            let statement = transaction.prepare_cached(sql).await?;
            transaction.query(&statement, params).await
        } else {
            transaction.query_typed(sql, &typed(params)).await
        }
    }

    /// Lends a connection to work that begins a transaction of its own. Where
    /// that fails, the connection is closed.
    pub(crate) async fn transact<T>(
        &self,
        operation: &'static str,
        work: impl AsyncFnOnce(&mut ClientWrapper) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        self.lend(operation, AfterRefusal::Close, work).await
    }

    /// Runs a few statements as one transaction.
    pub(crate) async fn in_transaction<T>(
        &self,
        operation: &'static str,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        self.transact(operation, async |client| {
            let transaction = begin(client).await?;
            let done = work(&transaction).await?;
            transaction.commit().await?;
            Ok(done)
        })
        .await
    }
}
