//! Rejects query parameters, preconditions and bodies that the OpenAPI document
//! does not describe, before a handler runs. Ignoring them would be dangerous: a
//! misspelt `?dry_run=true` would execute the request.
//!
//! The handlers validate the described input.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, MatchedPath, Query, Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::error::{ApiError, FieldError};
use super::body::BodyFields;

/// The input that each operation accepts.
#[derive(Debug)]
pub(super) struct OperationInputs {
    operations: HashMap<(Method, String), OperationInput>,
}

/// The input that one operation accepts.
#[derive(Debug)]
struct OperationInput {
    query: Vec<String>,
    if_match: bool,
    body: bool,
}

impl OperationInputs {
    /// Reads the OpenAPI document.
    pub(super) fn of_document(document: &Value) -> Self {
        let mut operations = HashMap::new();
        for (path, methods) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                if let Ok(method) = method.to_uppercase().parse() {
                    operations.insert((method, path.clone()), OperationInput::of(operation));
                }
            }
        }
        Self { operations }
    }

    fn of(&self, method: &Method, path: &str) -> Option<&OperationInput> {
        let method = match *method {
            Method::HEAD => Method::GET,
            ref other => other.clone(),
        };
        self.operations.get(&(method, path.to_owned()))
    }
}

impl OperationInput {
    fn of(operation: &Value) -> Self {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let named = |place: &'static str| {
            let of_place = parameters.clone().filter(move |one| one["in"] == place);
            of_place.filter_map(|one| one["name"].as_str().map(str::to_owned))
        };
        Self {
            query: named("query").collect(),
            if_match: named("header").any(|name| name.eq_ignore_ascii_case("if-match")),
            body: operation.get("requestBody").is_some(),
        }
    }

    /// Rejects unknown query parameters.
    fn check_query(&self, uri: &Uri) -> Result<(), ApiError> {
        let Ok(Query(given)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            // The handler reports a malformed query.
            return Ok(());
        };
        let unknown = given
            .into_iter()
            .filter(|(name, _)| !self.query.contains(name));
        let errors: Vec<FieldError> = unknown
            .map(|(name, value)| FieldError {
                kind: "extra_forbidden",
                msg: format!("{name} is not a parameter of this request"),
                loc: vec![json!("query"), json!(name)],
                input: json!(value),
            })
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::Invalid(errors))
        }
    }

    /// Rejects a precondition that the operation would not check.
    fn check_precondition(&self, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
        match headers.get(header::IF_MATCH) {
            Some(given) if !self.if_match && changes(method) => {
                let msg =
                    "If-Match: this request does not support a precondition: remove the header";
                let given = String::from_utf8_lossy(given.as_bytes());
                Err(ApiError::field("header", "If-Match", msg, json!(given)))
            }
            _ => Ok(()),
        }
    }
}

fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// Passes a request to its handler if the operation accepts all of its input.
pub(super) async fn reject_unknown(
    State(inputs): State<Arc<OperationInputs>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or(request.uri().path(), MatchedPath::as_str);
    // The router answers 405 to other methods.
    let Some(input) = inputs.of(request.method(), path) else {
        return next.run(request).await;
    };
    match checked(input, request).await {
        Ok(request) => next.run(request).await,
        Err(rejected) => rejected,
    }
}

async fn checked(input: &OperationInput, request: Request) -> Result<Request, Response> {
    input
        .check_query(request.uri())
        .and_then(|()| input.check_precondition(request.method(), request.headers()))
        .map_err(IntoResponse::into_response)?;
    if input.body || !changes(request.method()) {
        return Ok(request);
    }
    let (head, body) = request.into_parts();
    let whole = Request::from_parts(head.clone(), body);
    let body = Bytes::from_request(whole, &())
        .await
        .map_err(IntoResponse::into_response)?;
    BodyFields::of_body(&body)
        .and_then(BodyFields::finish)
        .map_err(IntoResponse::into_response)?;
    Ok(Request::from_parts(head, Body::from(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> OperationInput {
        OperationInput::of(&json!({ "parameters": [
            { "in": "path", "name": "name" },
            { "in": "query", "name": "limit" },
            { "in": "header", "name": "If-Match" },
        ]}))
    }

    #[test]
    fn only_described_parameters_pass_in_any_encoding() {
        for (query, unknown) in [
            ("", None),
            ("?", None),
            ("?limit=1", None),
            ("?l%69mit=1&limit=2", None),
            ("?name=x", Some("name")),
            ("?limit=1&dry_run=true", Some("dry_run")),
            ("?dry%5Frun", Some("dry_run")),
            ("?LIMIT=1", Some("LIMIT")),
            ("?=1", Some("")),
        ] {
            let uri: Uri = format!("/api/x{query}").parse().unwrap();
            let rejected = input().check_query(&uri).err();
            let found = rejected.map(|error| match error {
                ApiError::Invalid(errors) => errors[0].loc[1].as_str().unwrap().to_owned(),
                other => panic!("{other:?}"),
            });
            assert_eq!(found.as_deref(), unknown, "{query}");
        }
    }

    #[test]
    fn an_unsupported_precondition_is_rejected() {
        let headers = HeaderMap::from_iter([(header::IF_MATCH, "\"1\"".parse().unwrap())]);
        let without = OperationInput::of(&json!({}));
        let check = |input: &OperationInput, method: Method, headers: &HeaderMap| {
            input.check_precondition(&method, headers).is_ok()
        };
        assert!(check(&input(), Method::POST, &headers));
        assert!(!check(&without, Method::POST, &headers));
        assert!(check(&without, Method::GET, &headers));
        assert!(check(&without, Method::POST, &HeaderMap::new()));
    }
}
