//! Hearing that the database rang: LISTEN on a connection of its own, proven
//! alive by a probe, reconnected with backoff.
//!
//! A notification is a wakeups: it names a row and carries no order, so a
//! payload that is missing, doubled or hostile is harmless, and losing one
//! costs time only. After every (re)connect everything is rung, *after* LISTEN
//! took effect, so that nothing falls into the gap.
//!
//! A transaction pooler accepts LISTEN and forgets it. So each connection first
//! sends itself a word from another one; if that does not arrive, this says so
//! once, and the full passes do the work until it is mended.
//!
//! This module must not read rows and must not know what a key means.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::cause::chain;
use crate::core::backoff::Backoff;
use crate::core::database::{Database, session_settings};
use crate::core::wakeups::WakeupQueue;

/// How often a quiet connection is asked whether it still listens.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How long any answer on this connection may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a word to oneself may take once it was sent.
const ECHO_WITHIN: Duration = Duration::from_secs(3);
/// Before a connection that brings no notifications is tried again: most likely
/// somebody must change a setting first, but it may have been a slow moment.
const DEAF_RETRY: Backoff = Backoff {
    initial: Duration::from_secs(5),
    max: Duration::from_secs(60),
};
/// Between attempts to connect; short enough for the bell to work again within
/// 5 s of the end of whatever cut it off.
const RECONNECT: Backoff = Backoff {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(2),
};
/// Whether notifications arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listening {
    /// They do, since LISTEN took effect.
    Yes,
    /// They do not, for this reason; full passes do the work meanwhile.
    No(String),
    /// They cannot, the way the database is reached; a person should know why.
    Deaf(String),
}

/// Why a connection stopped being a listener.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    #[error("connecting took longer than {0:?}")]
    ConnectLate(Duration),
    #[error("the database cannot be reached")]
    Connect(#[source] tokio_postgres::Error),
    #[error("LISTEN failed")]
    Listen(#[source] tokio_postgres::Error),
    #[error(
        "notifications do not arrive over this connection, most likely because it goes through \
         a transaction pooler; give KINDLER_DATABASE_URL the server itself, or a pool in session mode"
    )]
    Deaf,
    #[error("the connection gave no answer within {ANSWER_WITHIN:?}")]
    Silent,
    #[error("the session does not listen any more")]
    NotListening,
    #[error("the connection ended")]
    Ended(#[source] Option<tokio_postgres::Error>),
}

/// Listens on one channel and rings a wakeups.
#[derive(Debug)]
pub struct Listener {
    // inputs
    database: Database,
    channel: String,
    // outputs
    wakeups: WakeupQueue,
    state: watch::Sender<Listening>,
}

impl Listener {
    /// A listener that is not connected yet and tells `state` when it is.
    pub fn new(
        database: Database,
        channel: String,
        wakeups: WakeupQueue,
        state: watch::Sender<Listening>,
    ) -> Self {
        Self {
            database,
            channel,
            wakeups,
            state,
        }
    }

    /// Listens until `shutdown`, through every loss of the connection.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut failures = 0;
        loop {
            let lost = tokio::select! {
                lost = self.listen(&mut failures) => lost,
                () = shutdown.cancelled() => return,
            };
            failures += 1;
            let retry = self.tell(&lost, failures);
            tokio::select! {
                () = sleep(retry) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Says why it does not listen, and how long until it tries again. That it
    /// cannot is said once, not with every try.
    fn tell(&self, lost: &ListenError, failures: u32) -> Duration {
        let why = chain(lost);
        let told = matches!(&*self.state.borrow(), Listening::Deaf(_));
        if matches!(lost, ListenError::Deaf) {
            if !told {
                error!(
                    channel = self.channel,
                    reason = why,
                    "changes are found by full passes only"
                );
            }
            self.state.send_replace(Listening::Deaf(why));
            return DEAF_RETRY.delay(failures, fastrand::f64());
        }
        warn!(
            channel = self.channel,
            reason = why,
            "listener is not connected"
        );
        self.state.send_replace(Listening::No(why));
        RECONNECT.delay(failures, fastrand::f64())
    }

    /// One connection, from connecting to its loss.
    async fn listen(&self, failures: &mut u32) -> ListenError {
        let wakeups = self.wakeups.clone();
        let channel = self.channel.clone();
        let echo = Arc::new(Echo::new());
        let heard = echo.clone();
        let within = self.database.connect_within();
        let connecting = self.database.connect_listening(move |message| {
            let AsyncMessage::Notification(ring) = message else {
                return;
            };
            if ring.channel() == channel {
                wakeups.wake(ring.payload());
            } else if ring.channel() == heard.channel {
                heard.arrived.notify_one();
            }
        });
        let (client, mut connection) = match timeout(within, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return ListenError::Connect(error),
            Err(_) => return ListenError::ConnectLate(within),
        };
        // A session that ends while it waits for its own word is not deaf.
        let listens = tokio::select! {
            listens = self.listen_on(&client, &echo) => listens,
            ended = &mut connection => return ListenError::Ended(ended.unwrap_or_default()),
        };
        if let Err(error) = listens {
            connection.abort();
            return error;
        }
        info!(channel = self.channel, "listener is connected");
        *failures = 0;
        self.state.send_replace(Listening::Yes);
        self.wakeups.wake_everything();
        loop {
            tokio::select! {
                ended = &mut connection => return ListenError::Ended(ended.unwrap_or_default()),
                () = sleep(PROBE_EVERY) => {}
            }
            if let Err(lost) = self.probe(&client).await {
                connection.abort();
                return lost;
            }
        }
    }

    /// Proves that words arrive on this connection, then listens for rings. In
    /// this order, so that a pooler keeps no session that listens for nobody.
    async fn listen_on(&self, client: &Client, echo: &Echo) -> Result<(), ListenError> {
        // No transaction stays open here: it would hold back the server's queue.
        let settings = session_settings("listener");
        let own = &echo.channel;
        say(client, &format!("{settings}; LISTEN {own}")).await?;
        // Another connection: on its own even a pooled session hears itself.
        let mouth = match timeout(self.database.connect_within(), self.database.connect()).await {
            Ok(connected) => connected.map_err(ListenError::Connect)?,
            Err(_) => return Err(ListenError::ConnectLate(self.database.connect_within())),
        };
        say(&mouth, &format!("NOTIFY {own}")).await?;
        timeout(ECHO_WITHIN, echo.arrived.notified())
            .await
            .map_err(|_| ListenError::Deaf)?;
        let channel = self.channel.replace('"', "\"\"");
        say(client, &format!("UNLISTEN {own}; LISTEN \"{channel}\"")).await
    }

    /// Asks on the same session whether it still listens: a half-open
    /// connection gives no error and no notification either.
    async fn probe(&self, client: &Client) -> Result<(), ListenError> {
        let sql = "SELECT count(*) FROM pg_listening_channels() AS channel WHERE channel = $1";
        let answer = timeout(ANSWER_WITHIN, client.query_one(sql, &[&self.channel])).await;
        match answer {
            Ok(Ok(row)) if row.get::<_, i64>(0) == 1 => Ok(()),
            Ok(Ok(_)) => Err(ListenError::NotListening),
            Ok(Err(error)) => Err(ListenError::Ended(Some(error))),
            Err(_) => Err(ListenError::Silent),
        }
    }
}

/// A word to oneself, on a channel that nobody else has.
#[derive(Debug)]
struct Echo {
    channel: String,
    arrived: Notify,
}

impl Echo {
    fn new() -> Self {
        Self {
            channel: format!("kindler_echo_{:016x}", fastrand::u64(..)),
            arrived: Notify::new(),
        }
    }
}

/// Runs statements within the time that any answer may take.
async fn say(client: &Client, sql: &str) -> Result<(), ListenError> {
    match timeout(ANSWER_WITHIN, client.batch_execute(sql)).await {
        Ok(said) => said.map_err(ListenError::Listen),
        Err(_) => Err(ListenError::Silent),
    }
}
