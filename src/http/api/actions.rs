//! Actions on a cluster: retry, adopt, recreate, pause, resume, start, stop, roll back.

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
use super::body::BodyFields;
use super::expected::{ExpectedGeneration, changed_or_conflict};
use super::history::revisions_of;
use super::lookup::find_changeable;
use super::port_warnings::{conflicts_of, warnings};
use super::tasks::Accepted;

async fn respond(
    api: &Api,
    name: &ClusterName,
    changed: Option<Cluster>,
) -> Result<Response, ApiError> {
    let cluster = changed_or_conflict(api, name, changed).await?;
    Ok(super::read::one(api, &cluster).await)
}

/// Retry at once, with the count of failures reset.
#[utoipa::path(post, path = "/api/clusters/{name}/retry", tag = "actions", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 200, body = View), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn retry(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: ExpectedGeneration,
) -> Result<Response, ApiError> {
    let (name, _) = find_changeable(&api, &name).await?;
    let store = api.declaring(&actor);
    let requested = store.request_retry(&name, expected.0).await?;
    respond(&api, &name, requested).await
}

/// Take over the cluster of this name that the daemon finds, although the row did not make it.
#[utoipa::path(post, path = "/api/clusters/{name}/adopt", tag = "actions", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 200, body = View), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn adopt(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: ExpectedGeneration,
) -> Result<Response, ApiError> {
    let (name, _) = find_changeable(&api, &name).await?;
    let store = api.declaring(&actor);
    let requested = store.request_adopt(&name, expected.0).await?;
    respond(&api, &name, requested).await
}

/// Delete the cluster and create it again, as declared.
#[utoipa::path(post, path = "/api/clusters/{name}/recreate", tag = "actions", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 200, body = View), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn recreate(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: ExpectedGeneration,
) -> Result<Response, ApiError> {
    let (name, _) = find_changeable(&api, &name).await?;
    let store = api.declaring(&actor);
    let requested = store.request_recreate(&name, expected.0).await?;
    respond(&api, &name, requested).await
}

/// Pause a cluster: Kindler observes it and changes nothing until it is resumed.
#[utoipa::path(post, path = "/api/clusters/{name}/pause", tag = "actions", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 200, body = View), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn pause(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: ExpectedGeneration,
) -> Result<Response, ApiError> {
    let (name, _) = find_changeable(&api, &name).await?;
    let store = api.declaring(&actor);
    let paused = store.set_paused(&name, true, expected.0).await?;
    respond(&api, &name, paused).await
}

/// Resume a paused cluster.
#[utoipa::path(post, path = "/api/clusters/{name}/resume", tag = "actions", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 200, body = View), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn resume(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: ExpectedGeneration,
) -> Result<Response, ApiError> {
    let (name, _) = find_changeable(&api, &name).await?;
    let store = api.declaring(&actor);
    let resumed = store.set_paused(&name, false, expected.0).await?;
    respond(&api, &name, resumed).await
}

/// Start a cluster: declare it present.
#[utoipa::path(post, path = "/api/clusters/{name}/start", tag = "actions", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 202, body = Accepted), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn start(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: ExpectedGeneration,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    declare_state(&api, &actor, &name, Desired::Present, expected).await
}

/// Stop a cluster: declare it stopped.
#[utoipa::path(post, path = "/api/clusters/{name}/stop", tag = "actions", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 202, body = Accepted), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn stop(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: ExpectedGeneration,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    declare_state(&api, &actor, &name, Desired::Stopped, expected).await
}

async fn declare_state(
    api: &Api,
    actor: &Actor,
    name: &str,
    desired: Desired,
    expected: ExpectedGeneration,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    let (name, _) = find_changeable(api, name).await?;
    let store = api.declaring(actor);
    let declared = store.set_desired(&name, desired, expected.0).await?;
    let cluster = changed_or_conflict(api, &name, declared).await?;
    // The task of the revision: the new one, or the current one if nothing changed.
    let revisions = revisions_of(api, &name).await?;
    let revision = revisions
        .into_iter()
        .find(|one| one.generation == cluster.generation);
    let task_id = revision.map(|one| one.task_id).unwrap_or_default();
    let waiting = api.fleet().await.and_then(|fleet| fleet.waiting(&cluster));
    let waiting = waiting
        .map(|waiting| format!("; {waiting}"))
        .unwrap_or_default();
    let message = format!("Cluster {name} is declared {desired}{waiting}");
    Ok((StatusCode::ACCEPTED, Json(Accepted::new(task_id, message))))
}

/// Declare the spec of an earlier revision again, as a new revision.
#[utoipa::path(post, path = "/api/clusters/{name}/rollback", tag = "actions", security(("token" = ["write"])),
    request_body(content = Object, description = "generation: the revision to restore; if_generation: the generation that was read; the request fails if it has changed"),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read, as if_generation")),
    responses((status = 200, body = View), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn rollback(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: ExpectedGeneration,
    body: Bytes,
) -> Result<Response, ApiError> {
    let (name, cluster) = find_changeable(&api, &name).await?;
    let mut fields = BodyFields::of_body(&body)?;
    if !fields.given("generation") {
        fields.error(
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
    let revisions = revisions_of(&api, &name).await?;
    if !revisions.iter().any(|one| one.generation == revision) {
        let detail = format!("Revision {revision} of cluster {name} not found");
        return Err(ApiError::NotFound(detail));
    }
    let expected = generation.unwrap_or(cluster.generation);
    let store = api.declaring(&actor);
    let changed = store.roll_back(&name, revision, Some(expected)).await?;
    let cluster = changed_or_conflict(&api, &name, changed).await?;
    let conflicts = conflicts_of(&api, std::slice::from_ref(&name)).await;
    Ok(super::read::one_with(&api, &cluster, &warnings(&conflicts, &name)).await)
}
