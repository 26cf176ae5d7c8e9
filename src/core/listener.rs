//! LISTEN on a connection of its own, proven alive by a probe, reconnected with
//! backoff; several channels share it, each with a wake-up queue.
//!
//! A notification is a hint: it names a row and carries no order, so a payload that
//! is missing, doubled or hostile is harmless, and losing one costs time only. After
//! every (re)connect each queue is woken for everything, *after* LISTEN took effect,
//! so that nothing falls into the gap.
//!
//! A transaction pooler accepts LISTEN and forgets it. So each connection first sends
//! a notification to itself over a second one; if that does not arrive, this logs one
//! error, and the full passes do the work until it is mended.
//!
//! This module must not read rows and must not know what a key means.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Notification};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::cause::chain;
use crate::core::backoff::Backoff;
use crate::core::database::{Database, session_settings};
use crate::core::wakeups::WakeupQueue;

/// How often a quiet connection is probed.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How long any answer on this connection may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a notification to ourselves may take once it was sent.
const ECHO_WITHIN: Duration = Duration::from_secs(3);
/// Before a connection that brings no notifications is tried again: most likely
/// a person must change a setting first, but it may have been a slow moment.
const DEAF_RETRY: Backoff = Backoff {
    initial: Duration::from_secs(5),
    max: Duration::from_secs(60),
};
/// Between attempts to connect; short enough for notifications to arrive again
/// within 5 s of the end of whatever cut them off.
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

/// A channel, and the queue that its notifications fill.
#[derive(Clone, Debug)]
pub struct Route {
    /// The name of the channel.
    pub channel: String,
    /// Where its payloads go, as keys.
    pub wakeups: WakeupQueue,
}

/// Listens on the channels of its routes.
#[derive(Debug)]
pub struct Listener {
    // inputs
    database: Database,
    // outputs
    routes: Arc<[Route]>,
    state: watch::Sender<Listening>,
}

impl Listener {
    /// A listener that is not connected yet; `state` says when it is.
    pub fn new(
        database: Database,
        routes: impl Into<Arc<[Route]>>,
        state: watch::Sender<Listening>,
    ) -> Self {
        Self {
            database,
            routes: routes.into(),
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
            let retry = self.report(&lost, failures);
            tokio::select! {
                () = sleep(retry) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// The channels, for a log line.
    fn channels(&self) -> String {
        let names: Vec<&str> = self.routes.iter().map(|r| r.channel.as_str()).collect();
        names.join(", ")
    }

    /// Reports why it does not listen, and how long until it tries again. That it
    /// cannot is logged once, not with every try.
    fn report(&self, lost: &ListenError, failures: u32) -> Duration {
        let (reason, channel) = (chain(lost), self.channels());
        let known = matches!(&*self.state.borrow(), Listening::Deaf(_));
        if matches!(lost, ListenError::Deaf) {
            if !known {
                error!(channel, reason, "changes are found by full passes only");
            }
            self.state.send_replace(Listening::Deaf(reason));
            return DEAF_RETRY.delay(failures, fastrand::f64());
        }
        warn!(channel, reason, "listener is not connected");
        self.state.send_replace(Listening::No(reason));
        RECONNECT.delay(failures, fastrand::f64())
    }

    /// One connection, from connecting to its loss.
    async fn listen(&self, failures: &mut u32) -> ListenError {
        let echo = Arc::new(Echo::new());
        let (routes, awaited) = (self.routes.clone(), echo.clone());
        let within = self.database.connect_within();
        let connecting = self.database.connect_listening(move |message| {
            if let AsyncMessage::Notification(notification) = message {
                dispatch(&routes, &awaited, &notification);
            }
        });
        let (client, mut connection) = match timeout(within, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return ListenError::Connect(error),
            Err(_) => return ListenError::ConnectLate(within),
        };
        // A session that ends while it waits for its own notification is not deaf.
        let listens = tokio::select! {
            listens = self.listen_on(&client, &echo) => listens,
            ended = &mut connection => return ListenError::Ended(ended.unwrap_or_default()),
        };
        if let Err(error) = listens {
            connection.abort();
            return error;
        }
        info!(channel = self.channels(), "listener is connected");
        *failures = 0;
        self.state.send_replace(Listening::Yes);
        for route in self.routes.iter() {
            route.wakeups.wake_everything();
        }
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

    /// Proves that notifications arrive on this connection, then listens on the
    /// channels. In this order, so that a pooler keeps no session that listens for
    /// nobody.
    async fn listen_on(&self, client: &Client, echo: &Echo) -> Result<(), ListenError> {
        // No transaction stays open here: it would hold back the server's queue.
        let settings = session_settings("listener");
        let own = &echo.channel;
        run(client, &format!("{settings}; LISTEN {own}")).await?;
        // On its own connection even a pooled session receives what it sends.
        let within = self.database.connect_within();
        let second_connection = match timeout(within, self.database.connect()).await {
            Ok(connected) => connected.map_err(ListenError::Connect)?,
            Err(_) => return Err(ListenError::ConnectLate(within)),
        };
        run(&second_connection, &format!("NOTIFY {own}")).await?;
        timeout(ECHO_WITHIN, echo.arrived.notified())
            .await
            .map_err(|_| ListenError::Deaf)?;
        let mut listen = format!("UNLISTEN {own}");
        for route in self.routes.iter() {
            let channel = route.channel.replace('"', "\"\"");
            listen.push_str(&format!("; LISTEN \"{channel}\""));
        }
        run(client, &listen).await
    }

    /// Asks on the same session whether it still listens: a half-open
    /// connection gives no error and no notification either.
    async fn probe(&self, client: &Client) -> Result<(), ListenError> {
        let sql = "SELECT count(*) FROM pg_listening_channels() AS channel WHERE channel = ANY($1)";
        let channels: Vec<&str> = self.routes.iter().map(|r| r.channel.as_str()).collect();
        let answer = timeout(ANSWER_WITHIN, client.query_one(sql, &[&channels])).await;
        match answer {
            Ok(Ok(row)) if usize::try_from(row.get::<_, i64>(0)) == Ok(channels.len()) => Ok(()),
            Ok(Ok(_)) => Err(ListenError::NotListening),
            Ok(Err(error)) => Err(ListenError::Ended(Some(error))),
            Err(_) => Err(ListenError::Silent),
        }
    }
}

/// Hands a notification to the queue of its channel.
fn dispatch(routes: &[Route], echo: &Echo, notification: &Notification) {
    let channel = notification.channel();
    if channel == echo.channel {
        echo.arrived.notify_one();
    }
    for route in routes.iter().filter(|route| route.channel == channel) {
        route.wakeups.wake(notification.payload());
    }
}

/// A notification to ourselves, on a channel that no other connection has.
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
async fn run(client: &Client, sql: &str) -> Result<(), ListenError> {
    match timeout(ANSWER_WITHIN, client.batch_execute(sql)).await {
        Ok(ran) => ran.map_err(ListenError::Listen),
        Err(_) => Err(ListenError::Silent),
    }
}
