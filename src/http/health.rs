//! Is it alive, is it ready, and if not, why.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use crate::core::listener::Listening;

use super::Source;

/// Whether the daemon can do its work, and if not, why.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// The reason why the database does not serve, if it does not.
    pub database: watch::Receiver<Option<String>>,
    /// Whether notifications arrive.
    pub listening: watch::Receiver<Listening>,
    /// Why nothing is claimed, if a later release owns the schema.
    pub schema: watch::Receiver<Option<String>>,
}

impl Vitals {
    /// What keeps the daemon from being ready; empty when it is.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if let Some(why) = &*self.database.borrow() {
            troubles.push(format!("database: {why}"));
        }
        if let Listening::No(why) = &*self.listening.borrow() {
            troubles.push(format!("listener: {why}"));
        }
        let standby = self.schema.borrow();
        troubles.extend(standby.as_ref().map(|why| format!("standby: {why}")));
        troubles
    }

    /// What other people's `kindler status` should tell of this daemon.
    pub fn announced(&self) -> Vec<String> {
        let mut announced = self.notices();
        announced.extend(self.schema.borrow().clone());
        announced
    }

    /// What a person should mend although the daemon does its work.
    pub fn notices(&self) -> Vec<String> {
        match &*self.listening.borrow() {
            Listening::Deaf(why) => vec![format!("listener: {why}")],
            Listening::Yes | Listening::No(_) => Vec::new(),
        }
    }
}

pub(super) async fn ready(State(source): State<Source>) -> Response {
    let troubles = source.vitals.troubles();
    let notices = source.vitals.notices();
    if troubles.is_empty() && notices.is_empty() {
        return "ready\n".into_response();
    }
    if troubles.is_empty() {
        // All that is declared gets done, only later: no reason to be restarted.
        return format!("ready, but degraded\n{}\n", notices.join("\n")).into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready\n{}\n", troubles.join("\n")),
    )
        .into_response()
}
