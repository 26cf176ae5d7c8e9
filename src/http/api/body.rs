//! Reads request bodies field by field, so that one response lists all invalid
//! fields with their limits.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::clusters::{FieldKind, Port, SpecField, SpecValue, Subnet};

use super::super::error::{ApiError, FieldError};

/// The API rejects privileged ports.
pub(super) const MIN_PORT: u16 = 1024;

/// The fields of an object that are not read yet, and the errors so far.
pub(super) struct BodyFields {
    fields: Map<String, Value>,
    at: Vec<Value>,
    errors: Vec<FieldError>,
}

impl BodyFields {
    /// The body as an object; an empty one counts as `{}`.
    pub(super) fn of_body(body: &[u8]) -> Result<Self, ApiError> {
        let whole = if body.is_empty() { b"{}" } else { body };
        let value: Value = serde_json::from_slice(whole).map_err(|error| {
            ApiError::Invalid(vec![FieldError {
                kind: "json_invalid",
                loc: vec![json!("body")],
                msg: format!("the body is not valid JSON: {error}"),
                input: Value::Null,
            }])
        })?;
        Self::of(value, vec![json!("body")]).map_err(|error| ApiError::Invalid(vec![error]))
    }

    /// The fields of a value at `at`, which must be an object.
    pub(super) fn of(value: Value, at: Vec<Value>) -> Result<Self, FieldError> {
        match value {
            Value::Object(fields) => Ok(Self {
                fields,
                at,
                errors: Vec::new(),
            }),
            other => Err(FieldError {
                kind: "object_type",
                loc: at,
                msg: "expected an object".to_owned(),
                input: other,
            }),
        }
    }

    pub(super) fn error(
        &mut self,
        kind: &'static str,
        field: &str,
        msg: impl Into<String>,
        input: Value,
    ) {
        let mut loc = self.at.clone();
        loc.push(json!(field));
        self.errors.push(FieldError {
            kind,
            loc,
            msg: msg.into(),
            input,
        });
    }

    pub(super) fn take(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field)
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// Whether the field is present and not null.
    pub(super) fn given(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|value| !value.is_null())
    }

    /// A parsed string.
    pub(super) fn text<T>(&mut self, field: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        match self.take(field)? {
            Value::Null => None,
            Value::String(text) => match text.parse() {
                Ok(value) => Some(value),
                Err(error) => {
                    self.error("value_error", field, error.to_string(), json!(text));
                    None
                }
            },
            other => {
                self.error(
                    "string_type",
                    field,
                    format!("{field}: expected a string"),
                    other,
                );
                None
            }
        }
    }

    /// A required parsed string.
    pub(super) fn required<T>(&mut self, field: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        if self.fields.get(field).is_none_or(Value::is_null) {
            self.take(field);
            self.error("missing", field, format!("{field} is missing"), Value::Null);
            return None;
        }
        self.text(field)
    }

    fn port(&mut self, field: &'static str) -> Option<Port> {
        let value = self.take(field)?;
        if value.is_null() {
            return None;
        }
        let port = value
            .as_i64()
            .and_then(|number| Port::new(field, number).ok());
        let port = port.filter(|port| port.get() >= MIN_PORT);
        if port.is_none() {
            let msg = format!("{field} {value} is out of range: use {MIN_PORT} to 65535");
            self.error("value_error", field, msg, value);
        }
        port
    }

    pub(super) fn flag(&mut self, field: &str) -> Option<bool> {
        match self.take(field)? {
            Value::Null => None,
            Value::Bool(flag) => Some(flag),
            other => {
                self.error(
                    "bool_type",
                    field,
                    format!("{field}: expected true or false"),
                    other,
                );
                None
            }
        }
    }

    pub(super) fn number(&mut self, field: &str) -> Option<i64> {
        match self.take(field)? {
            Value::Null => None,
            Value::Number(number) if number.is_i64() => number.as_i64(),
            other => {
                self.error(
                    "int_type",
                    field,
                    format!("{field}: expected an integer"),
                    other,
                );
                None
            }
        }
    }

    /// A subnet; an empty string means none. The outer option is `None` if the
    /// field is missing.
    fn subnet(&mut self, field: &str) -> Option<Option<Subnet>> {
        if !self.has(field) {
            return None;
        }
        if self.fields.get(field) == Some(&json!("")) {
            self.take(field);
            return Some(None);
        }
        Some(self.text(field))
    }

    /// A field of a spec, by its name in the API.
    pub(super) fn spec_value(&mut self, field: &'static SpecField) -> Option<SpecValue> {
        let name = field.api_name;
        match field.kind {
            FieldKind::Provider => self.text(name).map(SpecValue::Provider),
            FieldKind::Subnet => self.subnet(name).map(SpecValue::Subnet),
            FieldKind::Port { .. } => self.port(name).map(SpecValue::Port),
            FieldKind::Flag { .. } => self.flag(name).map(SpecValue::Flag),
        }
    }

    /// Labels: strings, and in an edit nulls, which remove a label.
    pub(super) fn labels(&mut self, field: &str, nulls: bool) -> Option<Value> {
        let value = self.take(field)?;
        // Postgres does not store NUL in jsonb.
        let fits = |(key, value): (&String, &Value)| {
            let text = value
                .as_str()
                .is_some_and(|text| text.len() <= MAX_LABEL_BYTES && !text.contains('\0'));
            !key.is_empty()
                && !key.contains('\0')
                && key.len() <= MAX_LABEL_BYTES
                && (text || (nulls && value.is_null()))
        };
        match &value {
            Value::Null => return None,
            Value::Object(labels) if labels.len() <= MAX_LABELS && labels.iter().all(fits) => {
                return Some(value);
            }
            _ => {}
        }
        let msg = format!(
            "{field}: expected an object of at most {MAX_LABELS} strings, with keys and values of \
             at most {MAX_LABEL_BYTES} bytes"
        );
        self.error("value_error", field, msg, value);
        None
    }

    /// Labels to add to the current ones, or (null) to remove from them.
    pub(super) fn label_changes(&mut self, field: &str, before: &Value) -> Option<Value> {
        let change = self.labels(field, true)?;
        let mut after = before.as_object().cloned().unwrap_or_default();
        // SQL may have written more labels; changing and removing them is allowed.
        let max = after.len().max(MAX_LABELS);
        for (key, value) in change.as_object().into_iter().flatten() {
            match value {
                Value::Null => after.remove(key),
                value => after.insert(key.clone(), value.clone()),
            };
        }
        if after.len() <= max {
            return Some(change);
        }
        let msg = format!(
            "{field}: {} are too many: use at most {MAX_LABELS}",
            after.len()
        );
        self.error("value_error", field, msg, change);
        None
    }

    /// All errors, including one for each unknown field.
    pub(super) fn errors(mut self) -> Vec<FieldError> {
        for (field, value) in std::mem::take(&mut self.fields) {
            let msg = format!("{field} is not a field of this request");
            self.error("extra_forbidden", &field, msg, value);
        }
        self.errors
    }

    /// Fails if there are errors.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        let errors = self.errors();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::Invalid(errors))
        }
    }
}

pub(super) const MAX_LABELS: usize = 64;
pub(super) const MAX_LABEL_BYTES: usize = 256;
