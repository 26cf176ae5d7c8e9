//! YAML as JSON.

use std::path::Path;

use serde_json::Value;

use super::read;

/// The only document of a file.
pub(crate) fn document(path: &Path) -> Value {
    serde_saphyr::from_str(&read(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts of a list; none if it is not a list.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .map(|item| item.as_str().expect("a text").to_owned())
        .collect()
}
