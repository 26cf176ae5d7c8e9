//! Log lines in JSON. Unlike the format of tracing-subscriber, a field that is an error
//! carries its causes.

use std::error::Error;
use std::fmt;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cause::chain;

/// A field that a line of the `log` crate has for its target.
const LOG_TARGET: &str = "log.target";

/// Writes an event as one JSON object: timestamp, level, fields, target, spans.
pub(super) struct JsonLines;

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut at = String::new();
        SystemTime.format_time(&mut Writer::new(&mut at))?;
        write!(
            writer,
            r#"{{"timestamp":{},"level":{}"#,
            json!(at),
            json!(metadata.level().as_str())
        )?;
        let mut fields = EventFields::default();
        event.record(&mut fields);
        for (name, value) in &fields.by_name {
            write!(writer, ",{}:{value}", json!(name))?;
        }
        let target = fields.target.as_deref().unwrap_or(metadata.target());
        write!(writer, r#","target":{}"#, json!(target))?;
        let spans = context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root());
        let spans: Vec<_> = spans
            .map(|span| {
                let extensions = span.extensions();
                let written = extensions.get::<FormattedFields<JsonFields>>();
                let fields = written.and_then(|fields| serde_json::from_str(fields).ok());
                let mut fields: Map<String, Value> = fields.unwrap_or_default();
                fields.insert("name".to_owned(), json!(span.name()));
                Value::Object(fields)
            })
            .collect();
        if !spans.is_empty() {
            write!(writer, r#","spans":{}"#, Value::Array(spans))?;
        }
        writeln!(writer, "}}")
    }
}

/// The fields of an event, in their order.
#[derive(Default)]
struct EventFields {
    by_name: Vec<(&'static str, Value)>,
    target: Option<String>,
}

impl EventFields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        let value = value.into();
        match field.name() {
            LOG_TARGET => self.target = value.as_str().map(str::to_owned),
            // Where the line of a library is in its source.
            name if name.starts_with("log.") => {}
            name => self.by_name.push((name.trim_start_matches("r#"), value)),
        }
    }
}

impl Visit for EventFields {
    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.add(field, chain(error));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}
