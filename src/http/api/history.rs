//! History: events of one cluster and of all, revisions, differences between
//! two revisions.

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::clusters::ClusterName;
use crate::store::{AuditEntry, AuditFilter, Incarnation, Revision};

use super::super::error::ApiError;
use super::Api;
use super::json_errors::ValidQuery;
use super::lookup::parse_name;

const MAX_EVENTS: i64 = 1000;
const DEFAULT_EVENTS: i64 = 100;

/// The kinds of events; `sql/migrations/0022_owned.sql` has the same list.
const KINDS: [&str; 14] = [
    "declared",
    "changed",
    "retry",
    "adopt",
    "recreate",
    "paused",
    "resumed",
    "protected",
    "unprotected",
    "transition",
    "attempt",
    "health",
    "step",
    "removed",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventQuery {
    cluster: Option<String>,
    actor: Option<String>,
    kind: Option<String>,
    before: Option<i64>,
    after: Option<i64>,
    limit: Option<i64>,
    #[serde(default)]
    all: bool,
}

async fn events(
    api: &Api,
    query: EventQuery,
    incarnation: Option<Incarnation>,
) -> Result<Json<Vec<AuditEntry>>, ApiError> {
    let limit = query.limit.unwrap_or(DEFAULT_EVENTS);
    if !(1..=MAX_EVENTS).contains(&limit) {
        let msg = format!("limit {limit} is out of range: use 1 to {MAX_EVENTS}");
        return Err(ApiError::field("query", "limit", msg, json!(limit)));
    }
    let kinds: Option<Vec<String>> = query.kind.map(|kinds| {
        kinds
            .split(',')
            .map(|kind| kind.trim().to_owned())
            .collect()
    });
    let unknown = kinds
        .iter()
        .flatten()
        .find(|kind| !KINDS.contains(&kind.as_str()));
    if let Some(kind) = unknown {
        let msg = format!("kind {kind:?} is not known: use {}", KINDS.join(", "));
        return Err(ApiError::field("query", "kind", msg, json!(kind)));
    }
    let filter = AuditFilter {
        cluster: query.cluster,
        actor: query.actor,
        kinds,
        before: query.before,
        after: query.after,
        incarnation,
    };
    Ok(Json(api.store.audit(&filter, limit).await?))
}

/// The audit log: the events of all clusters, newest first. `cluster` selects every cluster that
/// ever had the name; `uid` tells them apart.
#[utoipa::path(get, path = "/api/events", tag = "history", security(("token" = ["read"])),
    params(("cluster" = Option<String>, Query), ("actor" = Option<String>, Query), ("kind" = Option<String>, Query),
        ("before" = Option<i64>, Query, description = "only older than this id"),
        ("after" = Option<i64>, Query, description = "only newer than this id"), ("limit" = Option<i64>, Query)),
    responses((status = 200, body = Vec<Object>), (status = 422)))]
pub(super) async fn audit(
    State(api): State<Api>,
    ValidQuery(query): ValidQuery<EventQuery>,
) -> Result<Json<Vec<AuditEntry>>, ApiError> {
    events(&api, query, None).await
}

/// The events of one cluster, newest first; if no cluster has the name, those of the last one.
/// `all` adds earlier clusters of the name; `uid` tells them apart.
#[utoipa::path(get, path = "/api/clusters/{name}/events", tag = "history", security(("token" = ["read"])),
    params(("name" = String, Path), ("actor" = Option<String>, Query), ("kind" = Option<String>, Query),
        ("before" = Option<i64>, Query), ("after" = Option<i64>, Query), ("limit" = Option<i64>, Query),
        ("all" = Option<bool>, Query, description = "include earlier clusters of this name")),
    responses((status = 200, body = Vec<Object>), (status = 404), (status = 422)))]
pub(super) async fn of_cluster(
    State(api): State<Api>,
    Path(name): Path<String>,
    ValidQuery(query): ValidQuery<EventQuery>,
) -> Result<Json<Vec<AuditEntry>>, ApiError> {
    let name = parse_name(&name)?;
    let cluster = Some(name.to_string());
    let of = selected(&api, &name, query.all).await?;
    let found = events(&api, EventQuery { cluster, ..query }, of).await?;
    if found.is_empty() && api.store.get(&name).await?.is_none() {
        return Err(ApiError::unknown(name.as_str()));
    }
    Ok(found)
}

/// The row whose history is shown: the current or the last one; `None` for all.
async fn selected(
    api: &Api,
    name: &ClusterName,
    all: bool,
) -> Result<Option<Incarnation>, ApiError> {
    if all {
        return Ok(None);
    }
    Ok(Some(api.store.incarnation(name).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevisionQuery {
    #[serde(default)]
    all: bool,
}

/// The declared specs of a cluster, newest first. `all` adds earlier clusters of the name (`uid`
/// tells them apart); a rollback to one of those is not possible.
#[utoipa::path(get, path = "/api/clusters/{name}/revisions", tag = "history", security(("token" = ["read"])),
    params(("name" = String, Path),
        ("all" = Option<bool>, Query, description = "include earlier clusters of this name")),
    responses((status = 200, body = Vec<Object>), (status = 404), (status = 422)))]
pub(super) async fn revisions(
    State(api): State<Api>,
    Path(name): Path<String>,
    ValidQuery(query): ValidQuery<RevisionQuery>,
) -> Result<Json<Vec<Revision>>, ApiError> {
    let name = parse_name(&name)?;
    let of = selected(&api, &name, query.all).await?;
    let found = api.store.revisions(&name, of.as_ref()).await?;
    if found.is_empty() {
        return Err(ApiError::unknown(name.as_str()));
    }
    Ok(Json(found))
}

/// The revisions of the current row, or of the last one with the name.
pub(super) async fn revisions_of(api: &Api, name: &ClusterName) -> Result<Vec<Revision>, ApiError> {
    let of = api.store.incarnation(name).await?;
    Ok(api.store.revisions(name, Some(&of)).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DiffQuery {
    from: i64,
    to: i64,
}

/// The differences between two revisions of a cluster, as `field: [before, after]`.
#[utoipa::path(get, path = "/api/clusters/{name}/revisions/diff", tag = "history", security(("token" = ["read"])),
    params(("name" = String, Path), ("from" = i64, Query), ("to" = i64, Query)),
    responses((status = 200, body = Object), (status = 404)))]
pub(super) async fn diff(
    State(api): State<Api>,
    Path(name): Path<String>,
    ValidQuery(query): ValidQuery<DiffQuery>,
) -> Result<Json<Value>, ApiError> {
    let revisions = revisions_of(&api, &parse_name(&name)?).await?;
    let declared = |generation: i64| {
        let found = revisions.iter().find(|one| one.generation == generation);
        let found = found.ok_or_else(|| {
            ApiError::NotFound(format!("Revision {generation} of cluster {name} not found"))
        })?;
        let mut declared = found.spec.as_object().cloned().unwrap_or_default();
        declared.insert("desired_state".to_owned(), json!(found.desired_state));
        Ok::<_, ApiError>(declared)
    };
    let (from, to) = (declared(query.from)?, declared(query.to)?);
    let changes: Map<String, Value> = to
        .iter()
        .filter(|(field, after)| from.get(*field) != Some(after))
        .map(|(field, after)| (field.clone(), json!([from.get(field), after])))
        .collect();
    Ok(Json(
        json!({ "from": query.from, "to": query.to, "changes": changes }),
    ))
}
