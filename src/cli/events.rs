//! Shows the events of a cluster, or of the last one with the name. Earlier
//! clusters of the name are shown only on request.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use crate::core::steps::ENDED_WELL;
use crate::store::Event;

use super::args::{EventsArgs, Output};
use super::error::CliError;
use super::outcome::Exit;
use super::screen::{remark, write_json, write_out};
use super::session::CliSession;
use super::text;
use crate::cause::chain;

/// Time between two reads while following.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// Maximum number of events in one read while following.
const MAX_EVENTS: i64 = 10_000;

pub(super) async fn events(session: &CliSession, args: EventsArgs) -> Result<Exit, CliError> {
    let name = &args.name;
    let of = session.store.incarnation(name).await;
    let of = of.map_err(|error| session.failed(error))?;
    let selected = (!args.all).then_some(&of);
    let found = session.store.events(name, selected, 0, args.lines).await;
    let found = found.map_err(|error| session.failed(error))?;
    if found.is_empty() {
        // A name without events and without a row was never declared.
        session.found(name, session.store.get(name).await).await?;
        remark(&format!("no events of {name} yet"));
    }
    if args.output == Output::Json && !args.follow {
        return write_json(&found);
    }
    let mut last = of.after_event;
    show(&found, args.output, &mut last)?;
    if args.follow {
        follow(session, &args, last).await?;
    }
    Ok(Exit::Done)
}

/// Shows new events of all clusters of the name, until the output closes. Waits
/// while the database is unreachable.
async fn follow(session: &CliSession, args: &EventsArgs, mut last: i64) -> Result<(), CliError> {
    let mut unreachable = false;
    loop {
        sleep(POLL_EVERY).await;
        match session
            .store
            .events(&args.name, None, last, MAX_EVENTS)
            .await
        {
            Ok(new) => {
                if std::mem::take(&mut unreachable) {
                    remark("note: the database answers again");
                }
                show(&new, args.output, &mut last)?;
            }
            Err(error) if error.is_temporary() => {
                if !std::mem::replace(&mut unreachable, true) {
                    remark(&format!(
                        "note: waiting for the database: {}",
                        chain(&error)
                    ));
                }
            }
            Err(error) => return Err(session.failed(error)),
        }
    }
}

fn show(events: &[Event], output: Output, last: &mut i64) -> Result<(), CliError> {
    for event in events {
        *last = event.id;
        let text = match output {
            Output::Text => event_text(event),
            Output::Json => serde_json::json!(event).to_string() + "\n",
        };
        write_out(&text)?;
    }
    Ok(())
}

/// An event as one line, with its error on the lines below.
fn event_text(event: &Event) -> String {
    let at = event.at.strftime("%Y-%m-%d %H:%M:%SZ");
    let mut line = format!("{at}  {:<11}", text::line(&event.kind));
    match (&event.from_state, &event.to_state) {
        (Some(from), Some(to)) if from != to => {
            let _ = write!(line, " {} -> {}", text::line(from), text::line(to));
        }
        _ => {}
    }
    let message = event.message.as_deref().map(text::line);
    let why = if event.kind == "step" {
        step_text(event)
    } else {
        let reason = event.reason.as_deref().map(text::line);
        let parts = reason.into_iter().chain(message.clone());
        let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
        parts.join(": ")
    };
    if !why.is_empty() {
        let _ = write!(line, "  {why}");
    }
    if event.kind == "attempt" || event.error.is_some() || step_failed(event) {
        let attempt = event.attempt.unwrap_or_default();
        if attempt > 0 {
            let _ = write!(line, "  (attempt {attempt})");
        }
    }
    if let Some(change) = &event.change {
        let _ = write!(line, "  {}", change_text(change));
    }
    let _ = writeln!(line, "  by {}", text::line(&event.actor));
    let errors = event.error.iter().flat_map(|error| text::lines(error));
    for error in errors.filter(|error| Some(error) != message.as_ref()) {
        let _ = writeln!(line, "    {error}");
    }
    line
}

fn step_failed(event: &Event) -> bool {
    let reason = event.reason.as_deref();
    event.kind == "step" && reason.is_some_and(|reason| !ENDED_WELL.contains(&reason))
}

/// The message of a step's event: `process: applied in 0.3 s`, or why it failed.
fn step_text(event: &Event) -> String {
    let message = event.message.as_deref().map(text::line).unwrap_or_default();
    let message = message.strip_prefix("step ").unwrap_or(&message);
    match (&event.reason, message.split_once(": ")) {
        (Some(reason), Some((name, why))) if step_failed(event) => {
            format!("{name}: {}: {why}", text::line(reason))
        }
        _ => message.to_owned(),
    }
}

/// `field old -> new` for a change, `field value` for a declaration, which omits
/// default values.
fn change_text(change: &Value) -> String {
    let plain = |value: &Value| match value {
        Value::String(text) => text::line(text),
        Value::Null => "none".to_owned(),
        other => text::line(&other.to_string()),
    };
    let Some(fields) = change.as_object() else {
        return plain(change);
    };
    let texts = fields.iter().filter_map(|(field, value)| match value {
        Value::Array(pair) if pair.len() == 2 => Some(format!(
            "{field} {} -> {}",
            plain(&pair[0]),
            plain(&pair[1])
        )),
        Value::Null | Value::Bool(true) => None,
        other => Some(format!("{field} {}", plain(other))),
    });
    texts.collect::<Vec<_>>().join(", ")
}
