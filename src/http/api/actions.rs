//! What people do to a cluster beside declaring it: try again, pause, start,
//! stop, roll back.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use crate::clusters::{Cluster, ClusterName, Desired};
use crate::live::View;

use super::super::actor::Actor;
use super::super::error::ApiError;
use super::Api;
use super::body::Fields;
use super::expected::{Expected, changed_or_lost};
use super::history::revisions_of;
use super::named::free_to_change;
use super::tasks::Accepted;

async fn shown(
    api: &Api,
    name: &ClusterName,
    changed: Option<Cluster>,
) -> Result<Response, ApiError> {
    let cluster = changed_or_lost(api, name, changed).await?;
    Ok(super::read::one(&cluster))
}

/// Retry at once, with the count of failures reset.
#[utoipa::path(post, path = "/api/clusters/{name}/retry", tag = "actions", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 200, body = View), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn retry(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: Expected,
) -> Result<Response, ApiError> {
    let (known, _) = free_to_change(&api, &name).await?;
    let store = api.declaring(&actor);
    let asked = store.request_retry(&known, expected.0).await?;
    shown(&api, &known, asked).await
}

/// Pause a cluster: Kindler observes it and changes nothing until it is resumed.
#[utoipa::path(post, path = "/api/clusters/{name}/pause", tag = "actions", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 200, body = View), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn pause(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: Expected,
) -> Result<Response, ApiError> {
    let (known, _) = free_to_change(&api, &name).await?;
    let store = api.declaring(&actor);
    let paused = store.set_paused(&known, true, expected.0).await?;
    shown(&api, &known, paused).await
}

/// Resume a paused cluster.
#[utoipa::path(post, path = "/api/clusters/{name}/resume", tag = "actions", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 200, body = View), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn resume(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: Expected,
) -> Result<Response, ApiError> {
    let (known, _) = free_to_change(&api, &name).await?;
    let store = api.declaring(&actor);
    let resumed = store.set_paused(&known, false, expected.0).await?;
    shown(&api, &known, resumed).await
}

/// Start a cluster: declare it present.
#[utoipa::path(post, path = "/api/clusters/{name}/start", tag = "actions", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 202, body = Accepted), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn start(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: Expected,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    order(&api, &actor, &name, Desired::Present, expected).await
}

/// Stop a cluster: declare it stopped.
#[utoipa::path(post, path = "/api/clusters/{name}/stop", tag = "actions", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 202, body = Accepted), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn stop(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: Expected,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    order(&api, &actor, &name, Desired::Stopped, expected).await
}

async fn order(
    api: &Api,
    actor: &Actor,
    name: &str,
    desired: Desired,
    expected: Expected,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    let (known, _) = free_to_change(api, name).await?;
    let store = api.declaring(actor);
    let declared = store.set_desired(&known, desired, expected.0).await?;
    let cluster = changed_or_lost(api, &known, declared).await?;
    // The task is the revision's: the one that this made, or the one that
    // already said the same.
    let revisions = revisions_of(api, &known).await?;
    let revision = revisions
        .into_iter()
        .find(|one| one.generation == cluster.generation);
    let task_id = revision.map(|one| one.task_id).unwrap_or_default();
    let message = format!("Cluster {name} is declared {desired}");
    Ok((StatusCode::ACCEPTED, Json(Accepted::new(task_id, message))))
}

/// Declare the spec of an earlier revision again, as a new revision.
#[utoipa::path(post, path = "/api/clusters/{name}/rollback", tag = "actions", security(("token" = ["write"])),
    request_body(content = Object, description = "generation: the revision to restore; if_generation: the generation that was read, refuses a change made meanwhile"),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read, as if_generation")),
    responses((status = 200, body = View), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn rollback(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: Expected,
    body: Bytes,
) -> Result<Response, ApiError> {
    let (known, cluster) = free_to_change(&api, &name).await?;
    let mut fields = Fields::of_body(&body)?;
    if !fields.given("generation") {
        fields.fault(
            "missing",
            "generation",
            "generation is missing",
            json!(null),
        );
    }
    let revision = fields.number("generation");
    let generation = expected.or_in(&mut fields, "if_generation");
    fields.finish()?;
    let revision = revision.unwrap_or_default();
    let revisions = revisions_of(&api, &known).await?;
    if !revisions.iter().any(|one| one.generation == revision) {
        let detail = format!("Revision {revision} of cluster {name} not found");
        return Err(ApiError::NotFound(detail));
    }
    let expected = generation.unwrap_or(cluster.generation);
    let store = api.declaring(&actor);
    let changed = store.roll_back(&known, revision, Some(expected)).await?;
    shown(&api, &known, changed).await
}
