//! YAML as JSON, and its validation with schemas.

use std::path::Path;

use serde_json::Value;

use super::read;

/// The documents of a file.
pub(crate) fn documents(path: &Path) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The only document of a file.
pub(crate) fn document(path: &Path) -> Value {
    let mut all = documents(path);
    assert_eq!(all.len(), 1, "{}", path.display());
    all.remove(0)
}

/// Panics with every violation of a schema.
#[track_caller]
pub(crate) fn assert_follows(schema: &Value, value: &Value, what: &str) {
    let validator = jsonschema::validator_for(schema).unwrap();
    let broken: Vec<_> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(broken.is_empty(), "{what}: {broken:#?}");
}

/// The texts of a list; none if it is not a list.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .map(|item| item.as_str().expect("a text").to_owned())
        .collect()
}

#[test]
fn an_invalid_document_panics() {
    let schema = serde_json::json!({"type": "object", "required": ["a"]});
    assert_follows(&schema, &serde_json::json!({"a": 1}), "sound");
    let broken = std::panic::catch_unwind(|| assert_follows(&schema, &Value::Null, "broken"));
    assert!(broken.is_err());
}
