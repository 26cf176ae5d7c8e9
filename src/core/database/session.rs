//! The settings of sessions: all of them are here.
//!
//! A pooler hands one session of the server to several clients. A setting of the session
//! would then apply to the statements of others, and theirs to Kindler's. So settings are
//! made for the session only where the server itself assigned it to this connection, and
//! otherwise for each transaction.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::{Client, IsolationLevel, SimpleQueryMessage};

use super::backend::assigned_process;

/// How long one statement may run on the server.
const STATEMENT_TIMEOUT: &str = "5s";
/// How long a statement may wait for a lock.
const LOCK_TIMEOUT: &str = "3s";
/// When the server ends the transaction, and closes the session, of a client that is dead.
///
/// The statements of a transaction follow one another at once, so one that is idle belongs
/// to a client that is dead, stopped or cut off, and its locks block the others: less than a
/// statement may wait for a lock. After 10 s of silence the server probes every 3 s, and
/// gives up after 20 s without an acknowledgement; the operating system's default is two
/// hours. A Unix socket ignores the settings of TCP.
const DEAD_CLIENT: [(&str, &str); 5] = [
    ("idle_in_transaction_session_timeout", "2s"),
    ("tcp_keepalives_idle", "10s"),
    ("tcp_keepalives_interval", "3s"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "20s"),
];

/// The limit of the server for idle sessions in milliseconds; 0: none. Servers before version
/// 14 do not have the setting.
const IDLE_LIMIT: &str =
    "(extract(epoch FROM current_setting('idle_session_timeout', true)::interval) * 1000)::int8";

/// The settings of Kindler's sessions, and whether others share them.
#[derive(Debug)]
pub(crate) struct SessionSettings {
    /// `('NAME', 'VALUE'), ...`: timeouts on the server, READ COMMITTED whatever the
    /// database's default is, no compilation, and the actor for the audit log.
    values: String,
    /// Whether some connection was not assigned its session by the server. This stays, so
    /// that it holds for each connection that is open.
    shared: AtomicBool,
}

impl SessionSettings {
    pub(crate) fn new(actor: &str) -> Self {
        let values = [
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            ("default_transaction_isolation", "read committed"),
            // To compile a statement takes longer than it saves: seconds on a busy server.
            ("jit", "off"),
            ("kindler.actor", &actor.replace('\'', "''")),
        ];
        let values = values.iter().chain(&DEAD_CLIENT);
        let values: Vec<String> = values
            .map(|(name, value)| format!("('{name}', '{value}')"))
            .collect();
        Self {
            values: values.join(", "),
            shared: AtomicBool::new(false),
        }
    }

    /// Makes the settings for the session of a new connection, if the server assigned the
    /// session to it. One statement checks and sets, so that it cannot be another session.
    /// Returns how long the server lets the session be idle, if it limits that.
    pub(crate) async fn begin_session(
        &self,
        client: &Client,
    ) -> Result<Option<Duration>, tokio_postgres::Error> {
        let process = assigned_process(client).await;
        let sql = format!(
            "SELECT count(set_config(name, value, false)), {IDLE_LIMIT} \
             FROM (VALUES {}) AS s (name, value) WHERE pg_backend_pid() = {process}",
            self.values
        );
        let row = client.query_typed_one(&sql, &[]).await?;
        let (made, limit): (i64, Option<i64>) = (row.get(0), row.get(1));
        if made == 0 {
            self.shared.store(true, Ordering::Relaxed);
        }
        let limit = limit.and_then(|milliseconds| u64::try_from(milliseconds).ok());
        Ok(limit.filter(|limit| *limit > 0).map(Duration::from_millis))
    }

    /// Whether the settings are made for each transaction, because others share the sessions.
    pub(crate) fn are_per_transaction(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// Begins a READ COMMITTED transaction: a statement that counts rows after waiting for a
    /// lock must see what was committed meanwhile, whatever the database's default is.
    pub(super) async fn begin<'a>(
        &self,
        client: &'a mut ClientWrapper,
    ) -> Result<Transaction<'a>, tokio_postgres::Error> {
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::ReadCommitted)
            .start()
            .await?;
        if self.are_per_transaction() {
            transaction.batch_execute(&self.local()).await?;
        }
        Ok(transaction)
    }

    fn local(&self) -> String {
        format!(
            "SELECT set_config(name, value, true) FROM (VALUES {}) AS s (name, value)",
            self.values
        )
    }
}

/// [`DEAD_CLIENT`] for one transaction of a session without settings.
pub(crate) fn dead_client_limits() -> String {
    let limits = DEAD_CLIENT.map(|(name, value)| format!("SET LOCAL {name} = '{value}'"));
    limits.join("; ")
}

/// How often sessions are compared: in a busy pool a client may get the same one again.
const COMPARISONS: usize = 8;

/// Whether two connections were given the same session one after the other, or one of them
/// two sessions: then a pooler assigns sessions for each transaction. `false` is no proof
/// of the opposite.
pub(crate) async fn hands_sessions_around(
    first: &Client,
    second: &Client,
) -> Result<bool, tokio_postgres::Error> {
    let before = session_after(first, "").await?;
    for _ in 0..COMPARISONS {
        // It keeps its session until its transaction ends, so the other one gets another.
        let held = session_after(second, "BEGIN; ").await?;
        let same = held == before || session_after(first, "").await? != before;
        second.batch_execute("ROLLBACK").await?;
        if same {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Starts to listen, and returns the session that listens.
pub(crate) async fn listen(
    client: &Client,
    channel: &str,
) -> Result<Option<String>, tokio_postgres::Error> {
    session_after(client, &format!("LISTEN {channel}; ")).await
}

/// Stops listening, most likely also in a session that a pooler has assigned to others.
pub(crate) async fn unlisten(
    client: &Client,
    channel: &str,
    listens: &Option<String>,
) -> Result<(), tokio_postgres::Error> {
    let unlisten = format!("UNLISTEN {channel}; ");
    for _ in 0..COMPARISONS {
        if session_after(client, &unlisten).await? == *listens {
            break;
        }
    }
    Ok(())
}

/// Runs a statement; returns the process of the session that it ran in.
async fn session_after(
    client: &Client,
    statement: &str,
) -> Result<Option<String>, tokio_postgres::Error> {
    let sql = format!("{statement}SELECT pg_backend_pid()");
    let answer = client.simple_query(&sql).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
