//! Errors as clients of the old system know them: `{"detail": …}`, and for bad
//! input a list that names each field.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::warn;

use crate::cause::chain;
use crate::clusters::ClusterName;
use crate::core::database::DatabaseError;
use crate::live::View;

/// One thing that is wrong with the input.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Fault {
    /// `missing`, `value_error`, `extra_forbidden`, `json_invalid` or a type's name with `_type`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where: `["body", "http_port"]`, `["query", "limit"]`.
    #[schema(value_type = Vec<Object>)]
    pub loc: Vec<Value>,
    /// Which limit, in words.
    pub msg: String,
    /// What was given.
    #[schema(value_type = Object)]
    pub input: Value,
}

/// Why a request is not carried out; nothing was changed then.
#[derive(Debug)]
pub enum ApiError {
    /// The input breaks these limits.
    Invalid(Vec<Fault>),
    /// There is no such thing.
    NotFound(String),
    /// It collides with what is there; as it is now, where that helps.
    Conflict(String, Option<Box<View>>),
    /// Who asks is not known.
    Unauthorized(String),
    /// It was tried too often.
    TooMany {
        /// Seconds until the next try may be made.
        retry_after: u64,
        /// What, in words.
        detail: String,
    },
    /// It may not be done.
    Forbidden(String),
    /// The request has a form that is not served.
    Refused {
        /// The status.
        status: StatusCode,
        /// Why, in words.
        detail: String,
    },
    /// The database cannot be asked now.
    Unavailable(String),
    /// Something failed that should not.
    Internal(String),
}

impl ApiError {
    /// One wrong field.
    pub fn field(from: &str, field: &str, msg: impl Into<String>, input: Value) -> Self {
        Self::Invalid(vec![Fault {
            kind: "value_error",
            loc: vec![json!(from), json!(field)],
            msg: msg.into(),
            input,
        }])
    }

    /// There is a cluster of this name.
    pub fn exists(name: &ClusterName) -> Self {
        Self::Conflict(format!("Cluster {name} already exists"), None)
    }

    /// There is no cluster of this name.
    pub fn unknown(name: &str) -> Self {
        Self::NotFound(format!("Cluster {name} not found"))
    }
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        match error {
            // The database's own words begin with the field.
            DatabaseError::Refused(words) => {
                let field = words.split_whitespace().next().unwrap_or("").to_owned();
                Self::field("body", &field, words, Value::Null)
            }
            error @ DatabaseError::Denied { .. } => Self::Forbidden(format!(
                "{error}; set KINDLER_API_DATABASE_URL to a login in the role kindler_api \
                 (sql/roles.sql)"
            )),
            error if error.is_unreachable() => Self::Unavailable(chain(&error)),
            error => Self::Internal(chain(&error)),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, detail) = match self {
            Self::Invalid(faults) => (StatusCode::UNPROCESSABLE_ENTITY, json!(faults)),
            Self::NotFound(detail) => (StatusCode::NOT_FOUND, json!(detail)),
            Self::Conflict(detail, None) => (StatusCode::CONFLICT, json!(detail)),
            Self::Conflict(detail, Some(current)) => {
                let body = json!({ "detail": detail, "current": current });
                return (StatusCode::CONFLICT, Json(body)).into_response();
            }
            Self::Unauthorized(detail) => {
                let scheme = [(header::WWW_AUTHENTICATE, "Bearer")];
                let body = Json(json!({ "detail": detail }));
                return (StatusCode::UNAUTHORIZED, scheme, body).into_response();
            }
            Self::TooMany {
                retry_after,
                detail,
            } => {
                let after = [(header::RETRY_AFTER, retry_after.to_string())];
                let detail = format!("{detail}: try again in {retry_after} s");
                let body = Json(json!({ "detail": detail }));
                return (StatusCode::TOO_MANY_REQUESTS, after, body).into_response();
            }
            Self::Forbidden(detail) => (StatusCode::FORBIDDEN, json!(detail)),
            Self::Refused { status, detail } => (status, json!(detail)),
            Self::Unavailable(detail) => (StatusCode::SERVICE_UNAVAILABLE, json!(detail)),
            Self::Internal(detail) => {
                warn!(reason = detail, "a request failed");
                (StatusCode::INTERNAL_SERVER_ERROR, json!(detail))
            }
        };
        (status, Json(json!({ "detail": detail }))).into_response()
    }
}
