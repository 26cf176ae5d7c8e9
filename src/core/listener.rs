//! LISTEN on a dedicated connection that is probed and reconnected with backoff. Several
//! channels share it, each with a wake-up queue.
//!
//! A notification is a hint: it names a row and carries no command, so a missing,
//! repeated or hostile payload is harmless. After every (re)connect, once LISTEN is in
//! effect, each queue gets a wake-up for everything, so that no change is missed.
//!
//! A transaction pooler accepts LISTEN and loses it. So each connection first sends a
//! notification to itself over a second connection. If it does not arrive, this module
//! logs one error, and full passes find the changes until the connection is fixed.
//!
//! This module must not read rows and must not know what a key means.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Notification};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::cause::chain;
use crate::core::backoff::Backoff;
use crate::core::database::{
    Database, NoConnection, SessionSettings, hands_sessions_around, listen, unlisten,
};
use crate::core::wakeups::WakeupQueue;

/// How often a quiet connection is probed; twice as often as the server ends idle sessions,
/// if that is more often.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How long an answer on this connection may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a notification to itself may take to arrive.
const ECHO_WITHIN: Duration = Duration::from_secs(3);
/// The backoff where notifications do not arrive: most likely a person must change a
/// setting first, but the server may only have been slow.
const UNSUPPORTED_RETRY: Backoff = Backoff {
    initial: Duration::from_secs(5),
    max: Duration::from_secs(60),
};
/// The backoff between attempts to connect; short enough for notifications to arrive
/// within 5 s of the end of an interruption.
const RECONNECT: Backoff = Backoff {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(2),
};

/// Whether notifications arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listening {
    /// They do: LISTEN is in effect.
    Yes,
    /// They do not, for this reason; full passes find changes meanwhile.
    No(String),
    /// They cannot over this connection, for this reason; a person must change it.
    Unsupported(String),
}

/// Why a connection does not listen, or does not any more.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    #[error("connecting took longer than {0:?}")]
    ConnectTimeout(Duration),
    #[error("the database cannot be reached")]
    Connect(#[source] NoConnection),
    #[error("LISTEN failed")]
    Listen(#[source] tokio_postgres::Error),
    #[error(
        "notifications do not arrive over this connection, most likely because it goes through \
         a transaction pooler; give KINDLER_DATABASE_URL the server itself, or a pool in session mode"
    )]
    Unsupported,
    #[error("the connection gave no answer within {ANSWER_WITHIN:?}")]
    Timeout,
    #[error("the session does not listen any more")]
    NotListening,
    #[error("the connection ended")]
    Ended(#[source] Option<tokio_postgres::Error>),
}

/// A channel, and the wake-up queue of its notifications.
#[derive(Clone, Debug)]
pub struct Route {
    /// The name of the channel.
    pub channel: String,
    /// The queue that gets its payloads, as keys.
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
    /// A listener that is not connected yet; it reports its state to `state`.
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

    /// Listens until `shutdown`, and reconnects whenever the connection is lost.
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

    /// Reports why it does not listen, and returns the delay until the next attempt.
    /// [`Listening::Unsupported`] is logged once and not at every attempt.
    fn report(&self, lost: &ListenError, failures: u32) -> Duration {
        let (reason, channel) = (chain(lost), self.channels());
        let known = matches!(&*self.state.borrow(), Listening::Unsupported(_));
        if matches!(lost, ListenError::Unsupported) {
            if !known {
                error!(channel, reason, "changes are found by full passes only");
            }
            self.state.send_replace(Listening::Unsupported(reason));
            return UNSUPPORTED_RETRY.delay(failures, fastrand::f64());
        }
        warn!(channel, reason, "listener is not connected");
        self.state.send_replace(Listening::No(reason));
        RECONNECT.delay(failures, fastrand::f64())
    }

    /// Runs one connection until it is lost.
    async fn listen(&self, failures: &mut u32) -> ListenError {
        let echo = Arc::new(Echo::new());
        let (routes, awaited) = (self.routes.clone(), echo.clone());
        let within = self.database.connect_within();
        let connecting = self.database.connect_listening(move |message| {
            if let AsyncMessage::Notification(notification) = message {
                dispatch(&routes, &awaited, &notification);
            }
        });
        // A second connection sends the notification that proves this one: at once at the start,
        // and after this one while the server is down, which may then be asked less often.
        let is_first = *failures == 0;
        let connecting = async {
            if is_first {
                return tokio::try_join!(connecting, self.database.connect());
            }
            Ok((connecting.await?, self.database.connect().await?))
        };
        let ((client, mut connection), sender) = match timeout(within, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return ListenError::Connect(self.database.explain(error)),
            Err(_) => return ListenError::ConnectTimeout(within),
        };
        // A session that ends while it waits for its own notification proves nothing.
        let listens = tokio::select! {
            listens = self.listen_on(&client, sender, &echo) => listens,
            ended = &mut connection => return ListenError::Ended(ended.unwrap_or_default()),
        };
        let probe_every = match listens {
            Ok(every) => every,
            Err(error) => {
                connection.abort();
                return error;
            }
        };
        info!(channel = self.channels(), "listener is connected");
        *failures = 0;
        self.state.send_replace(Listening::Yes);
        for route in self.routes.iter() {
            route.wakeups.wake_everything();
        }
        loop {
            tokio::select! {
                ended = &mut connection => return ListenError::Ended(ended.unwrap_or_default()),
                () = sleep(probe_every) => {}
            }
            if let Err(lost) = self.probe(&client).await {
                connection.abort();
                return lost;
            }
        }
    }

    /// Proves that notifications arrive on this connection, then listens on the channels.
    /// In this order, so that no session of a pooler is left listening. Returns the time
    /// between two probes.
    /// `sender` sends the proof, because even a pooled session receives its own notification.
    async fn listen_on(
        &self,
        client: &Client,
        sender: Client,
        echo: &Echo,
    ) -> Result<Duration, ListenError> {
        let settings = SessionSettings::new("listener");
        let limit = answer(settings.begin_session(client)).await?;
        // A session of others would listen for good, and block the server's notification
        // queue during each of their transactions.
        if settings.are_per_transaction() && answer(hands_sessions_around(client, &sender)).await? {
            return Err(ListenError::Unsupported);
        }
        let own = &echo.channel;
        let listens = answer(listen(client, own)).await?;
        match answer(sender.batch_execute(&format!("NOTIFY {own}"))).await {
            // The session is this connection's own, so it does receive what others send.
            Err(ListenError::Listen(error))
                if is_full_queue(&error) && !settings.are_per_transaction() =>
            {
                warn!("the notification queue of the server is full");
            }
            Err(error) => {
                answer(unlisten(client, own, &listens)).await?;
                return Err(error);
            }
            Ok(()) if timeout(ECHO_WITHIN, echo.arrived.notified()).await.is_err() => {
                answer(unlisten(client, own, &listens)).await?;
                return Err(ListenError::Unsupported);
            }
            Ok(()) => {}
        }
        let mut listen = format!("UNLISTEN {own}");
        for route in self.routes.iter() {
            let channel = route.channel.replace('"', "\"\"");
            listen.push_str(&format!("; LISTEN \"{channel}\""));
        }
        answer(client.batch_execute(&listen)).await?;
        Ok(limit.map_or(PROBE_EVERY, |limit| PROBE_EVERY.min(limit / 2)))
    }

    /// Checks on the same session that it still listens: a half-open connection gives
    /// neither an error nor a notification.
    async fn probe(&self, client: &Client) -> Result<(), ListenError> {
        let sql = "SELECT count(*) FROM pg_listening_channels() AS channel WHERE channel = ANY($1)";
        let channels: Vec<&str> = self.routes.iter().map(|r| r.channel.as_str()).collect();
        let answer = timeout(ANSWER_WITHIN, client.query_one(sql, &[&channels])).await;
        match answer {
            Ok(Ok(row)) if usize::try_from(row.get::<_, i64>(0)) == Ok(channels.len()) => Ok(()),
            Ok(Ok(_)) => Err(ListenError::NotListening),
            Ok(Err(error)) => Err(ListenError::Ended(Some(error))),
            Err(_) => Err(ListenError::Timeout),
        }
    }
}

/// Whether a NOTIFY failed because the queue of the server is full.
fn is_full_queue(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::PROGRAM_LIMIT_EXCEEDED)
}

/// Adds the payload of a notification to the queue of its channel.
fn dispatch(routes: &[Route], echo: &Echo, notification: &Notification) {
    let channel = notification.channel();
    if channel == echo.channel {
        echo.arrived.notify_one();
    }
    for route in routes.iter().filter(|route| route.channel == channel) {
        route.wakeups.wake(notification.payload());
    }
}

/// A notification of the listener to itself, on a channel that no other connection uses.
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

/// Waits for the answer to statements, with a deadline.
async fn answer<T>(
    statements: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, ListenError> {
    match timeout(ANSWER_WITHIN, statements).await {
        Ok(ran) => ran.map_err(ListenError::Listen),
        Err(_) => Err(ListenError::Timeout),
    }
}
