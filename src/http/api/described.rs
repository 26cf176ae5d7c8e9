//! Holds every request to the description of its operation: query parameters,
//! a precondition and a body that are not described there are refused, before a
//! handler runs. What is ignored is worse: a misspelt or hoped-for
//! `?dry_run=true` would become the deed.
//!
//! It reads only what is not described; the rest is the handlers' to check.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, MatchedPath, Query, Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::error::{ApiError, Fault};
use super::body::Fields;

/// What the operations take.
#[derive(Debug)]
pub(super) struct Described {
    operations: HashMap<(Method, String), Takes>,
}

/// What one operation takes.
#[derive(Debug)]
struct Takes {
    query: Vec<String>,
    if_match: bool,
    body: bool,
}

impl Described {
    /// Reads a description.
    pub(super) fn of_document(document: &Value) -> Self {
        let mut operations = HashMap::new();
        for (path, methods) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                if let Ok(method) = method.to_uppercase().parse() {
                    operations.insert((method, path.clone()), Takes::of(operation));
                }
            }
        }
        Self { operations }
    }

    fn of(&self, method: &Method, path: &str) -> Option<&Takes> {
        let method = match *method {
            Method::HEAD => Method::GET,
            ref other => other.clone(),
        };
        self.operations.get(&(method, path.to_owned()))
    }
}

impl Takes {
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

    /// Parameters that nobody described; they would be ignored.
    fn strange(&self, uri: &Uri) -> Result<(), ApiError> {
        let Ok(Query(given)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            // The handlers' own reading says what is wrong with it.
            return Ok(());
        };
        let strange = given
            .into_iter()
            .filter(|(name, _)| !self.query.contains(name));
        let faults: Vec<Fault> = strange
            .map(|(name, value)| Fault {
                kind: "extra_forbidden",
                msg: format!("{name} is not a parameter of this request"),
                loc: vec![json!("query"), json!(name)],
                input: json!(value),
            })
            .collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ApiError::Invalid(faults))
        }
    }

    /// A precondition that nothing would be held to.
    fn unkept(&self, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
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

/// Lets a request through to its handler if it holds nothing that its operation
/// would ignore.
pub(super) async fn keep(
    State(described): State<Arc<Described>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or(request.uri().path(), MatchedPath::as_str);
    // A method that is not described is refused with the ones that are.
    let Some(takes) = described.of(request.method(), path) else {
        return next.run(request).await;
    };
    match kept(takes, request).await {
        Ok(request) => next.run(request).await,
        Err(refused) => refused,
    }
}

async fn kept(takes: &Takes, request: Request) -> Result<Request, Response> {
    takes
        .strange(request.uri())
        .and_then(|()| takes.unkept(request.method(), request.headers()))
        .map_err(IntoResponse::into_response)?;
    if takes.body || !changes(request.method()) {
        return Ok(request);
    }
    let (head, body) = request.into_parts();
    let whole = Request::from_parts(head.clone(), body);
    let body = Bytes::from_request(whole, &())
        .await
        .map_err(IntoResponse::into_response)?;
    Fields::of_body(&body)
        .and_then(Fields::finish)
        .map_err(IntoResponse::into_response)?;
    Ok(Request::from_parts(head, Body::from(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes() -> Takes {
        Takes::of(&json!({ "parameters": [
            { "in": "path", "name": "name" },
            { "in": "query", "name": "limit" },
            { "in": "header", "name": "If-Match" },
        ]}))
    }

    #[test]
    fn only_described_parameters_pass_however_they_are_written() {
        for (query, strange) in [
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
            let refused = takes().strange(&uri).err();
            let found = refused.map(|error| match error {
                ApiError::Invalid(faults) => faults[0].loc[1].as_str().unwrap().to_owned(),
                other => panic!("{other:?}"),
            });
            assert_eq!(found.as_deref(), strange, "{query}");
        }
    }

    #[test]
    fn a_precondition_is_refused_where_nothing_is_held_to_it() {
        let headers = HeaderMap::from_iter([(header::IF_MATCH, "\"1\"".parse().unwrap())]);
        let not = Takes::of(&json!({}));
        assert!(takes().unkept(&Method::POST, &headers).is_ok());
        assert!(not.unkept(&Method::POST, &headers).is_err());
        assert!(not.unkept(&Method::GET, &headers).is_ok());
        assert!(not.unkept(&Method::POST, &HeaderMap::new()).is_ok());
    }
}
