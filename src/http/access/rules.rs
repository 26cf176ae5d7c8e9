//! The scope of each operation, read from the OpenAPI document: what is
//! documented is what the server enforces.

use std::collections::HashMap;

use axum::http::Method;
use serde_json::{Value, json};

use crate::access::Scope;

/// The scope that each operation needs.
#[derive(Debug)]
pub(in crate::http) struct ScopeRules {
    operations: HashMap<(Method, String), Option<Scope>>,
}

impl ScopeRules {
    /// Reads the OpenAPI document. An operation without a valid scope needs `admin`.
    pub(in crate::http) fn of_document(document: &Value) -> Self {
        let mut operations = HashMap::new();
        for (path, methods) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                if let Ok(method) = method.to_uppercase().parse() {
                    operations.insert((method, path.clone()), needed(operation));
                }
            }
        }
        Self { operations }
    }

    /// The scope that a request needs; `None` if it needs no credential. Unknown
    /// operations need `read`: they do nothing but answer 404 or 405.
    pub(in crate::http) fn of(&self, method: &Method, path: &str) -> Option<Scope> {
        let method = match *method {
            Method::HEAD => Method::GET,
            ref other => other.clone(),
        };
        let known = self.operations.get(&(method, path.to_owned()));
        known.copied().unwrap_or(Some(Scope::Read))
    }
}

fn needed(operation: &Value) -> Option<Scope> {
    match &operation["security"][0] {
        Value::Object(nothing) if nothing.is_empty() => None,
        one => {
            let scope = one["token"][0].as_str().and_then(|word| word.parse().ok());
            Some(scope.unwrap_or(Scope::Admin))
        }
    }
}

/// Documents the scope of every operation, and that a session is as good as a
/// token.
pub(in crate::http) fn annotate(document: &mut Value) {
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (_, methods) in paths {
        for (_, operation) in methods.as_object_mut().into_iter().flatten() {
            let scope = needed(operation).map_or("none", Scope::as_str);
            operation["x-scope"] = json!(scope);
            if scope != "none" {
                operation["security"] = json!([{ "token": [scope] }, { "login": [scope] }]);
                let unauthorized = json!({ "description": "missing or invalid credentials" });
                operation["responses"]["401"] = unauthorized;
                let rejected = &mut operation["responses"]["403"];
                if rejected["description"].as_str().is_none_or(str::is_empty) {
                    *rejected =
                        json!({ "description": "insufficient scope, or a protected cluster" });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_without_a_scope_need_admin_and_head_is_get() {
        let mut document = json!({ "paths": {
            "/open": { "get": { "security": [{}] } },
            "/read": { "get": { "security": [{ "token": ["read"] }] }, "post": { "security": [{ "token": ["write"] }] } },
            "/keys": { "get": { "security": [{ "token": ["admin"] }] } },
            "/forgotten": { "get": {} },
            "/misspelt": { "get": { "security": [{ "token": ["raed"] }] } },
        }});
        annotate(&mut document);
        let rules = ScopeRules::of_document(&document);
        for (method, path, expected) in [
            (Method::GET, "/open", None),
            (Method::HEAD, "/open", None),
            (Method::HEAD, "/keys", Some(Scope::Admin)),
            (Method::POST, "/open", Some(Scope::Read)),
            (Method::HEAD, "/read", Some(Scope::Read)),
            (Method::POST, "/read", Some(Scope::Write)),
            (Method::GET, "/forgotten", Some(Scope::Admin)),
            (Method::GET, "/misspelt", Some(Scope::Admin)),
            (Method::GET, "/nowhere", Some(Scope::Read)),
        ] {
            assert_eq!(rules.of(&method, path), expected, "{method} {path}");
        }
        assert_eq!(document["paths"]["/read"]["post"]["x-scope"], "write");
        assert_eq!(document["paths"]["/open"]["get"]["x-scope"], "none");
    }
}
