//! Reading bodies field by field, so that all that is wrong is told at once and
//! each fault names its field and limit.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::clusters::{FieldKind, Port, SpecField, SpecValue, Subnet};

use super::super::error::{ApiError, Fault};

/// The ports that the API takes; the others are the system's.
pub(super) const LOWEST_PORT: u16 = 1024;

/// The fields of an object that were not read yet, and the faults so far.
pub(super) struct Fields {
    fields: Map<String, Value>,
    at: Vec<Value>,
    faults: Vec<Fault>,
}

impl Fields {
    /// The body as an object; an empty one counts as `{}`.
    pub(super) fn of_body(body: &[u8]) -> Result<Self, ApiError> {
        let whole = if body.is_empty() { b"{}" } else { body };
        let value: Value = serde_json::from_slice(whole).map_err(|error| {
            ApiError::Invalid(vec![Fault {
                kind: "json_invalid",
                loc: vec![json!("body")],
                msg: format!("the body is no JSON: {error}"),
                input: Value::Null,
            }])
        })?;
        Self::of(value, vec![json!("body")]).map_err(|fault| ApiError::Invalid(vec![fault]))
    }

    /// A value that should be an object, found at `at`.
    pub(super) fn of(value: Value, at: Vec<Value>) -> Result<Self, Fault> {
        match value {
            Value::Object(fields) => Ok(Self {
                fields,
                at,
                faults: Vec::new(),
            }),
            other => Err(Fault {
                kind: "object_type",
                loc: at,
                msg: "an object is wanted here".to_owned(),
                input: other,
            }),
        }
    }

    pub(super) fn fault(
        &mut self,
        kind: &'static str,
        field: &str,
        msg: impl Into<String>,
        input: Value,
    ) {
        let mut loc = self.at.clone();
        loc.push(json!(field));
        self.faults.push(Fault {
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

    /// Whether the field is there and holds something.
    pub(super) fn given(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|value| !value.is_null())
    }

    /// A text that is checked when it is read.
    pub(super) fn text<T>(&mut self, field: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        match self.take(field)? {
            Value::Null => None,
            Value::String(text) => match text.parse() {
                Ok(value) => Some(value),
                Err(error) => {
                    self.fault("value_error", field, error.to_string(), json!(text));
                    None
                }
            },
            other => {
                self.fault(
                    "string_type",
                    field,
                    format!("{field}: a text is wanted"),
                    other,
                );
                None
            }
        }
    }

    /// The same, but it has to be there.
    pub(super) fn required<T>(&mut self, field: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        if self.fields.get(field).is_none_or(Value::is_null) {
            self.take(field);
            self.fault("missing", field, format!("{field} is missing"), Value::Null);
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
        let port = port.filter(|port| port.get() >= LOWEST_PORT);
        if port.is_none() {
            let msg = format!("{field} {value} is out of range: use {LOWEST_PORT} to 65535");
            self.fault("value_error", field, msg, value);
        }
        port
    }

    pub(super) fn flag(&mut self, field: &str) -> Option<bool> {
        match self.take(field)? {
            Value::Null => None,
            Value::Bool(flag) => Some(flag),
            other => {
                self.fault(
                    "bool_type",
                    field,
                    format!("{field}: true or false is wanted"),
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
                self.fault(
                    "int_type",
                    field,
                    format!("{field}: a whole number is wanted"),
                    other,
                );
                None
            }
        }
    }

    /// A network; an empty text is none. The outer option says whether the
    /// field is there.
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

    /// Labels: texts, and in an edit nulls, which remove.
    pub(super) fn labels(&mut self, field: &str, nulls: bool) -> Option<Value> {
        let value = self.take(field)?;
        // Postgres' jsonb holds no NUL.
        let fits = |(key, value): (&String, &Value)| {
            let text = value
                .as_str()
                .is_some_and(|text| text.len() <= LONGEST_LABEL && !text.contains('\0'));
            !key.is_empty()
                && !key.contains('\0')
                && key.len() <= LONGEST_LABEL
                && (text || (nulls && value.is_null()))
        };
        match &value {
            Value::Null => return None,
            Value::Object(labels) if labels.len() <= MOST_LABELS && labels.iter().all(fits) => {
                return Some(value);
            }
            _ => {}
        }
        let msg = format!(
            "{field}: an object of at most {MOST_LABELS} texts is wanted, keys and values of at \
             most {LONGEST_LABEL} bytes"
        );
        self.fault("value_error", field, msg, value);
        None
    }

    /// Labels to add to those that are there, or (null) to remove of them.
    pub(super) fn more_labels(&mut self, field: &str, before: &Value) -> Option<Value> {
        let change = self.labels(field, true)?;
        let mut after = before.as_object().cloned().unwrap_or_default();
        // Where psql wrote more, they can still be changed and removed.
        let most = after.len().max(MOST_LABELS);
        for (key, value) in change.as_object().into_iter().flatten() {
            match value {
                Value::Null => after.remove(key),
                value => after.insert(key.clone(), value.clone()),
            };
        }
        if after.len() <= most {
            return Some(change);
        }
        let msg = format!(
            "{field}: {} in all are too many: use {MOST_LABELS}",
            after.len()
        );
        self.fault("value_error", field, msg, change);
        None
    }

    /// What was wrong, also with fields that nobody asked for.
    pub(super) fn faults(mut self) -> Vec<Fault> {
        for (field, value) in std::mem::take(&mut self.fields) {
            let msg = format!("{field} is no field of this request");
            self.fault("extra_forbidden", &field, msg, value);
        }
        self.faults
    }

    /// Ends reading.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        let faults = self.faults();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ApiError::Invalid(faults))
        }
    }
}

pub(super) const MOST_LABELS: usize = 64;
pub(super) const LONGEST_LABEL: usize = 256;
