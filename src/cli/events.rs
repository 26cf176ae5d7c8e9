//! What happened to a cluster; also to the last that had a name. Earlier
//! clusters of the same name are shown only if they are asked for.

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
use super::session::Session;
use super::text;
use crate::cause::chain;

/// How often a followed book is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// More than a cluster has in one look.
const MANY: i64 = 10_000;

pub(super) async fn events(session: &Session, args: EventsArgs) -> Result<Exit, CliError> {
    let name = &args.name;
    let of = session.store.incarnation(name).await;
    let of = of.map_err(|error| session.failed(error))?;
    let shown = (!args.all).then_some(&of);
    let found = session.store.events(name, shown, 0, args.lines).await;
    let found = found.map_err(|error| session.failed(error))?;
    if found.is_empty() {
        // No events and no row: nobody ever declared such a cluster.
        session.known(name, session.store.get(name).await).await?;
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

/// Shows new events, whichever cluster of the name they are about, until the
/// reader goes away; a database that cannot be
/// reached is waited out.
async fn follow(session: &Session, args: &EventsArgs, mut last: i64) -> Result<(), CliError> {
    let mut out_of_reach = false;
    loop {
        sleep(LOOK_EVERY).await;
        match session.store.events(&args.name, None, last, MANY).await {
            Ok(new) => {
                if std::mem::take(&mut out_of_reach) {
                    remark("note: the database answers again");
                }
                show(&new, args.output, &mut last)?;
            }
            Err(error) if error.is_unreachable() => {
                if !std::mem::replace(&mut out_of_reach, true) {
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
            Output::Text => told(event),
            Output::Json => serde_json::json!(event).to_string() + "\n",
        };
        write_out(&text)?;
    }
    Ok(())
}

/// One event in one line, and its error below.
fn told(event: &Event) -> String {
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
        step(event)
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
        let failures = event.attempt.unwrap_or_default();
        if failures > 0 {
            let _ = write!(line, "  (failure {failures})");
        }
    }
    if let Some(change) = &event.change {
        let _ = write!(line, "  {}", changed(change));
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

/// What a step's event says: `process: applied in 0.3 s`, or why it failed.
fn step(event: &Event) -> String {
    let message = event.message.as_deref().map(text::line).unwrap_or_default();
    let said = message.strip_prefix("step ").unwrap_or(&message);
    match (&event.reason, said.split_once(": ")) {
        (Some(reason), Some((name, why))) if step_failed(event) => {
            format!("{name}: {}: {why}", text::line(reason))
        }
        _ => said.to_owned(),
    }
}

/// `field old -> new` for a change, `field value` for a declaration, which
/// leaves out what says nothing special.
fn changed(change: &Value) -> String {
    let plain = |value: &Value| match value {
        Value::String(text) => text::line(text),
        Value::Null => "none".to_owned(),
        other => text::line(&other.to_string()),
    };
    let Some(fields) = change.as_object() else {
        return plain(change);
    };
    let told = fields.iter().filter_map(|(field, value)| match value {
        Value::Array(pair) if pair.len() == 2 => Some(format!(
            "{field} {} -> {}",
            plain(&pair[0]),
            plain(&pair[1])
        )),
        Value::Null | Value::Bool(true) => None,
        other => Some(format!("{field} {}", plain(other))),
    });
    told.collect::<Vec<_>>().join(", ")
}
