//! Transactions in READ COMMITTED.

use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::Row;

use super::pool::AfterError;
use super::{Connections, DatabaseError, Param, typed};

/// Runs one statement of a transaction and returns its rows. It is never prepared: if a
/// column's type changed, a prepared one would fail, and with it the transaction.
pub(crate) async fn rows_in(
    transaction: &Transaction<'_>,
    sql: &str,
    params: &[Param<'_>],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    transaction.query_typed(sql, &typed(params)).await
}

impl Connections {
    /// Begins a READ COMMITTED transaction with the settings of Kindler's sessions.
    pub(crate) async fn begin<'a>(
        &self,
        client: &'a mut ClientWrapper,
    ) -> Result<Transaction<'a>, tokio_postgres::Error> {
        self.sessions().begin(client).await
    }

    /// Runs `work`, which begins its own transaction, on a connection. If it fails, the
    /// connection is closed.
    pub(crate) async fn transact<T>(
        &self,
        operation: &'static str,
        work: impl AsyncFnOnce(&mut ClientWrapper) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        self.call_with(operation, AfterError::Close, work).await
    }

    /// Runs statements in one transaction.
    pub(crate) async fn in_transaction<T>(
        &self,
        operation: &'static str,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        self.transact(operation, async |client| {
            let transaction = self.begin(client).await?;
            let done = work(&transaction).await?;
            transaction.commit().await?;
            Ok(done)
        })
        .await
    }
}
