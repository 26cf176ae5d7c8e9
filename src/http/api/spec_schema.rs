//! The fields of a spec in `/openapi.json`, generated from their declaration.

use serde_json::{Map, Value, json};

use crate::clusters::{Desired, FieldKind, MAX_NAME, Provider, Spec, SpecField};

use super::body::{MAX_LABEL_BYTES, MAX_LABELS, MIN_PORT};

/// Adds the fields to the view of a cluster and to the bodies that declare and change
/// one.
pub(super) fn describe(document: &mut Value) {
    let view = &mut document["components"]["schemas"]["View"];
    for field in Spec::FIELDS {
        view["properties"][field.api_name] = property_of_view(field);
    }
    if let Some(required) = view["required"].as_array_mut() {
        let always = Spec::FIELDS.iter().filter(|field| !may_be_none(field));
        let always = always.map(|field| json!(field.api_name));
        // After the name, as in the view.
        required.splice(1..1, always);
    }
    let paths = &mut document["paths"];
    let optional = Spec::FIELDS.iter().filter(|field| field.name != "provider");
    let mut optional: Vec<_> = optional.collect();
    optional.sort_by_key(|field| field.statement_order());
    let body = &mut paths["/api/clusters"]["post"]["requestBody"];
    let mut properties = properties_of_body(Spec::FIELDS.iter(), true);
    properties.insert("name".to_owned(), name());
    describe_body(body, &optional, &properties, &["name", "provider"]);
    let changeable: Vec<_> = Spec::FIELDS.iter().filter(|field| !field.fixed).collect();
    let body = &mut paths["/api/clusters/{name}"]["patch"]["requestBody"];
    let mut properties = properties_of_body(changeable.iter().copied(), false);
    properties.insert(
        "generation".to_owned(),
        json!({ "type": ["integer", "null"] }),
    );
    describe_body(body, &changeable, &properties, &[]);
}

/// Fills the names of `fields` into the description and sets the schema.
fn describe_body(
    body: &mut Value,
    fields: &[&SpecField],
    properties: &Map<String, Value>,
    required: &[&str],
) {
    let names: Vec<_> = fields.iter().map(|field| field.api_name).collect();
    let text = body["description"].as_str().unwrap_or_default();
    body["description"] = json!(text.replace("{spec}", &names.join(", ")));
    let mut schema = json!({
        "type": "object", "properties": properties, "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    body["content"]["application/json"]["schema"] = schema;
}

fn may_be_none(field: &SpecField) -> bool {
    field.kind == FieldKind::Subnet
}

fn property_of_view(field: &SpecField) -> Value {
    let mut property = match field.kind {
        FieldKind::Provider => json!({ "type": "string" }),
        FieldKind::Subnet => json!({ "type": ["string", "null"] }),
        // 0 if the row cannot be decoded.
        FieldKind::Port { .. } => {
            json!({ "type": "integer", "format": "int32", "minimum": 0, "maximum": u16::MAX })
        }
        FieldKind::Flag { .. } => json!({ "type": "boolean" }),
    };
    property["description"] = json!(field.about);
    property
}

/// The fields of a body; null counts as not given.
fn properties_of_body(
    fields: impl Iterator<Item = &'static SpecField>,
    new: bool,
) -> Map<String, Value> {
    let mut properties: Map<String, Value> = fields
        .map(|field| (field.api_name.to_owned(), property_of_body(field, new)))
        .collect();
    let texts = |kinds: Value| json!({ "type": kinds, "maxLength": MAX_LABEL_BYTES });
    let label = match new {
        true => texts(json!("string")),
        // In a change, null removes a label.
        false => texts(json!(["string", "null"])),
    };
    let desired = [Desired::Present, Desired::Stopped].map(Desired::as_str);
    for (name, property) in [
        (
            "labels",
            json!({
                "type": ["object", "null"], "additionalProperties": label,
                "maxProperties": MAX_LABELS,
            }),
        ),
        ("paused", json!({ "type": ["boolean", "null"] })),
        (
            "desired_state",
            json!({ "type": ["string", "null"], "enum": [desired[0], desired[1], null] }),
        ),
    ] {
        properties.insert(name.to_owned(), property);
    }
    properties
}

fn property_of_body(field: &SpecField, new: bool) -> Value {
    let mut property = match field.kind {
        FieldKind::Provider => {
            json!({ "type": "string", "enum": Provider::ALL.map(Provider::as_str) })
        }
        FieldKind::Subnet => json!({ "type": ["string", "null"] }),
        FieldKind::Port { .. } => json!({
            "type": ["integer", "null"], "minimum": MIN_PORT, "maximum": u16::MAX,
        }),
        FieldKind::Flag { .. } => json!({ "type": ["boolean", "null"] }),
    };
    property["description"] = json!(field.about);
    if new && field.name != "provider" {
        property["default"] = json!(field.default());
    }
    property
}

fn name() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": MAX_NAME })
}
