//! Readiness of the daemon, with reasons.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use crate::core::listener::Listening;
use crate::findings::Findings;

use super::MonitoringState;

/// Whether the daemon can work, and why not.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Why the database cannot be used, if it cannot.
    pub database: watch::Receiver<Option<String>>,
    /// Whether notifications arrive.
    pub listening: watch::Receiver<Listening>,
    /// Why the daemon is on standby, if the schema is newer than its release.
    pub schema: watch::Receiver<Option<String>>,
    /// What this daemon found at a database that has gone back, if it did.
    pub went_back: watch::Receiver<Option<String>>,
    /// What an operator should know of the notification queue, if anything.
    pub queue: watch::Receiver<Option<String>>,
    /// What is wrong around the daemon.
    pub findings: Findings,
}

impl Readiness {
    /// Why the daemon is not ready; empty if it is.
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

    /// The notices that `kindler status` shows of this daemon, on any host, besides findings.
    pub fn announced(&self) -> Vec<String> {
        let mut announced = self.connection_notices();
        announced.extend(self.schema.borrow().clone());
        announced.extend(self.went_back.borrow().clone());
        announced
    }

    /// What an operator should fix although the daemon is ready.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = self.connection_notices();
        let findings = self.findings.list();
        notices.extend(findings.iter().map(ToString::to_string));
        notices
    }

    fn connection_notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if let Listening::Unsupported(why) = &*self.listening.borrow() {
            notices.push(format!("listener: {why}"));
        }
        let queue = self.queue.borrow();
        notices.extend(queue.as_ref().map(|why| format!("notifications: {why}")));
        notices
    }
}

pub(super) async fn ready(State(state): State<MonitoringState>) -> Response {
    let troubles = state.readiness.troubles();
    let notices = state.readiness.notices();
    if troubles.is_empty() && notices.is_empty() {
        return "ready\n".into_response();
    }
    if troubles.is_empty() {
        // 200: full passes find all changes, only later, and a restart would not help.
        return format!("ready, but degraded\n{}\n", notices.join("\n")).into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready\n{}\n", troubles.join("\n")),
    )
        .into_response()
}
