//! Errors in the format of the old system: `{"detail": …}`, and for invalid input
//! a list with an entry for each field.

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

/// One invalid field of the input.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// `missing`, `value_error`, `extra_forbidden`, `json_invalid` or a type's name with `_type`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The location, such as `["body", "http_port"]` or `["query", "limit"]`.
    #[schema(value_type = Vec<Object>)]
    pub loc: Vec<Value>,
    /// The rule that is broken.
    pub msg: String,
    /// The given value.
    #[schema(value_type = Object)]
    pub input: Value,
}

/// Why a request failed. It changed nothing, unless the connection to the
/// database broke at the commit.
#[derive(Debug)]
pub enum ApiError {
    /// 422: these fields are invalid.
    Invalid(Vec<FieldError>),
    /// 404.
    NotFound(String),
    /// 409, with the current cluster after a concurrent change.
    Conflict(String, Option<Box<View>>),
    /// 401: missing or invalid credentials.
    Unauthorized(String),
    /// 429: rate-limited.
    TooMany {
        /// Seconds until the next attempt is allowed.
        retry_after: u64,
        /// What is limited.
        detail: String,
    },
    /// 403.
    Forbidden(String),
    /// Another client error.
    Rejected {
        /// The HTTP status.
        status: StatusCode,
        /// The reason.
        detail: String,
    },
    /// 503: the database cannot be reached, takes no writes, or a lock or a limit is
    /// exhausted.
    Unavailable(String),
    /// 500: a defect.
    Internal(String),
}

impl ApiError {
    /// 422 for one field.
    pub fn field(from: &str, field: &str, msg: impl Into<String>, input: Value) -> Self {
        Self::Invalid(vec![FieldError {
            kind: "value_error",
            loc: vec![json!(from), json!(field)],
            msg: msg.into(),
            input,
        }])
    }

    /// 409: a cluster has this name.
    pub fn exists(name: &ClusterName) -> Self {
        Self::Conflict(format!("Cluster {name} already exists"), None)
    }

    /// 404: no cluster has this name.
    pub fn unknown(name: &str) -> Self {
        Self::NotFound(format!("Cluster {name} not found"))
    }
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        match error {
            // The message of the database begins with the field.
            DatabaseError::Rejected(message) => {
                let field = message.split_whitespace().next().unwrap_or("").to_owned();
                Self::field("body", &field, message, Value::Null)
            }
            error @ DatabaseError::Denied { .. } => Self::Forbidden(format!(
                "{error}; set KINDLER_API_DATABASE_URL to a login in the role kindler_api \
                 (sql/roles.sql)"
            )),
            error if error.is_temporary() => Self::Unavailable(chain(&error)),
            error @ DatabaseError::Refused { by_rule: true, .. } => {
                Self::Conflict(chain(&error), None)
            }
            error @ DatabaseError::Unencodable { .. } => Self::Rejected {
                status: StatusCode::UNPROCESSABLE_ENTITY,
                detail: chain(&error),
            },
            error => Self::Internal(chain(&error)),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, detail) = match self {
            Self::Invalid(errors) => (StatusCode::UNPROCESSABLE_ENTITY, json!(errors)),
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
            Self::Rejected { status, detail } => (status, json!(detail)),
            Self::Unavailable(detail) => (StatusCode::SERVICE_UNAVAILABLE, json!(detail)),
            Self::Internal(detail) => {
                warn!(reason = detail, "a request failed");
                (StatusCode::INTERNAL_SERVER_ERROR, json!(detail))
            }
        };
        (status, Json(json!({ "detail": detail }))).into_response()
    }
}
