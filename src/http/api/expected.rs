//! The generation that a change expects, so that it does not overwrite a
//! concurrent change. The statement that writes compares it.

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use serde_json::json;

use crate::clusters::{Cluster, ClusterName};
use crate::live::View;

use super::super::error::ApiError;
use super::Api;
use super::body::BodyFields;
use super::lookup::find;

/// The generation in `If-Match`; `None` if any is accepted.
pub(super) struct ExpectedGeneration(pub(super) Option<i64>);

impl<S: Send + Sync> FromRequestParts<S> for ExpectedGeneration {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut given = parts.headers.get_all(header::IF_MATCH).iter();
        let (first, more) = (given.next(), given.next());
        let Some(first) = first else {
            return Ok(Self(None));
        };
        let text = String::from_utf8_lossy(first.as_bytes());
        match text.trim() {
            "*" if more.is_none() => Ok(Self(None)),
            tag => match tag.trim_matches('"').parse() {
                Ok(generation) if more.is_none() => Ok(Self(Some(generation))),
                _ => {
                    let msg = "If-Match: use the ETag of the cluster, one number in quotes";
                    Err(ApiError::field("header", "If-Match", msg, json!(text)))
                }
            },
        }
    }
}

impl ExpectedGeneration {
    /// Reads the generation from the body, too; both must agree.
    pub(super) fn or_in(self, fields: &mut BodyFields, field: &str) -> Option<i64> {
        let read = fields.number(field);
        if let (Some(read), Some(matched)) = (read, self.0)
            && read != matched
        {
            let msg = format!("{field} {read} differs from If-Match, {matched}");
            fields.error("value_error", field, msg, json!(read));
        }
        read.or(self.0)
    }
}

/// The changed cluster, or 409 if a concurrent change came first.
pub(super) async fn changed_or_conflict(
    api: &Api,
    name: &ClusterName,
    changed: Option<Cluster>,
) -> Result<Cluster, ApiError> {
    if let Some(cluster) = changed {
        return Ok(cluster);
    }
    let current = find(api, name).await?;
    let detail = format!(
        "Cluster {name} was changed meanwhile: its generation is {} now",
        current.generation
    );
    let current = Box::new(View::of(&current, None));
    Err(ApiError::Conflict(detail, Some(current)))
}
