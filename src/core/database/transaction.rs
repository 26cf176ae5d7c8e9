//! Transactions in READ COMMITTED.

use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::{IsolationLevel, Row};

use super::pool::AfterError;
use super::{Connections, DatabaseError, Param, typed};

/// Begins a READ COMMITTED transaction: a statement that counts rows after waiting for a
/// lock must see what was committed meanwhile. The database may have another default,
/// and a pooler may lose the setting of the session.
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
    /// Runs one statement of a transaction and returns its rows; prepared, if consecutive
    /// statements are proven to use the same session.
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
            let transaction = begin(client).await?;
            let done = work(&transaction).await?;
            transaction.commit().await?;
            Ok(done)
        })
        .await
    }
}
