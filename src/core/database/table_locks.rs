//! Locks of tables whose schema is changed.
//!
//! A statement that waits for such a lock makes every later statement on the table wait
//! behind it, also the renewals of leases. So it waits for a short time only and is tried
//! again, and in between the others continue. This module says who holds the locks.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row, Transaction};

/// How long others may have to wait behind one attempt: less than the margin of the
/// shortest lease, which is trusted for 1.6 s and renewed every 0.5 s.
const ATTEMPT: &str = "500ms";

/// The time between two attempts, in which the others continue.
pub(crate) const NEXT_ATTEMPT: Duration = Duration::from_secs(2);

/// How long to wait for maintenance of the tables, which delays no other session.
/// An automatic vacuum ends after `deadlock_timeout` (1 s) when a session waits for it.
const MAINTENANCE: &str = "3s";

/// Locks the tables that exist, in this order, or fails after a short time.
pub(crate) async fn lock_tables(
    transaction: &Transaction<'_>,
    tables: &[&str],
) -> Result<(), Error> {
    let sql = "SELECT string_agg(to_regclass(name)::text, ', ' ORDER BY position)
               FROM unnest($1::text[]) WITH ORDINALITY AS t (name, position)
               WHERE to_regclass(name) IS NOT NULL";
    let found = transaction
        .query_typed_one(sql, &[(&tables, Type::TEXT_ARRAY)])
        .await?;
    let found: Option<String> = found.get(0);
    let Some(found) = found else {
        return limit_waits(transaction).await;
    };
    // The timeout of the statement bounds the waits for all tables together.
    transaction
        .batch_execute(&format!(
            "SET LOCAL statement_timeout = '{MAINTENANCE}';
             LOCK TABLE {found} IN SHARE UPDATE EXCLUSIVE MODE"
        ))
        .await?;
    transaction
        .batch_execute(&format!("SET LOCAL statement_timeout = '{ATTEMPT}'"))
        .await?;
    transaction
        .batch_execute(&format!("LOCK TABLE {found} IN ACCESS EXCLUSIVE MODE"))
        .await?;
    limit_waits(transaction).await
}

/// Limits the waits for locks of further relations, not the time of a statement.
pub(crate) async fn limit_waits(transaction: &Transaction<'_>) -> Result<(), Error> {
    let limits = format!("SET LOCAL lock_timeout = '{ATTEMPT}'; SET LOCAL statement_timeout = 0");
    transaction.batch_execute(&limits).await
}

/// Whether a statement failed because others held a lock for too long.
pub(crate) fn is_lock_timeout(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::QUERY_CANCELED,
            SqlState::T_R_DEADLOCK_DETECTED,
        ]
        .contains(code)
    })
}

/// A session, or a prepared transaction, that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    pid: Option<i32>,
    user: Option<String>,
    application: Option<String>,
    kind: Option<String>,
    query_start: Option<Timestamp>,
    transaction_start: Option<Timestamp>,
    prepared: Option<String>,
}

/// Who holds locks on these tables, longest first.
pub(crate) async fn blockers(client: &Client, tables: &[&str]) -> Result<Vec<Blocker>, Error> {
    let sql = include_str!("../../../sql/core/list_blockers.sql");
    let found = client
        .query_typed(sql, &[(&tables, Type::TEXT_ARRAY)])
        .await?;
    found.iter().map(Blocker::read).collect()
}

impl Blocker {
    pub(super) fn read(row: &Row) -> Result<Self, Error> {
        let prepared: Option<String> = row.try_get("prepared")?;
        let is_prepared = prepared.is_some();
        let either = |of_session, of_prepared| if is_prepared { of_prepared } else { of_session };
        Ok(Self {
            pid: row.try_get("pid")?,
            user: row.try_get(either("user", "prepared_by"))?,
            application: row.try_get("application")?,
            kind: row.try_get("kind")?,
            query_start: row.try_get("query_start")?,
            transaction_start: row.try_get(either("xact_start", "prepared_at"))?,
            prepared,
        })
    }
}

impl fmt::Display for Blocker {
    /// `pid 7 (user ada, application psql, query began T, transaction began T)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.prepared, self.pid) {
            (Some(gid), _) => write!(f, "prepared transaction '{gid}' (")?,
            (None, Some(pid)) => write!(f, "pid {pid} (")?,
            (None, None) => f.write_str("a session (")?,
        }
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let unknown = || "unknown".to_owned();
        let began = |at: Option<Timestamp>| match at {
            Some(at) => format!("{at:.0}"),
            None => "at a time that this role may not see".to_owned(),
        };
        write!(f, "user {}", given(&self.user).unwrap_or_else(unknown))?;
        if self.prepared.is_none() {
            let application = given(&self.application).or_else(|| given(&self.kind));
            write!(
                f,
                ", application {}, query began {}",
                application.unwrap_or_else(unknown),
                began(self.query_start)
            )?;
        }
        write!(f, ", transaction began {})", began(self.transaction_start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_is_named_for_people() {
        let at = |second| Timestamp::from_second(second).ok();
        let mut blocker = Blocker {
            pid: Some(7),
            user: Some("ada".into()),
            application: Some("psql".into()),
            kind: Some("client backend".into()),
            query_start: at(60),
            transaction_start: at(0),
            prepared: None,
        };
        assert_eq!(
            blocker.to_string(),
            "pid 7 (user ada, application psql, query began 1970-01-01T00:01:00Z, \
             transaction began 1970-01-01T00:00:00Z)"
        );
        blocker.prepared = Some("move".into());
        assert_eq!(
            blocker.to_string(),
            "prepared transaction 'move' (user ada, transaction began 1970-01-01T00:00:00Z)"
        );
    }
}
