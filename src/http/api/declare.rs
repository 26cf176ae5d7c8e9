//! Declares new clusters, changes and deletions, one by one or in a batch. The
//! handlers write only the declaration; the reconciler acts on it.

use std::collections::HashSet;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clusters::{ClusterName, Desired, PartialSpec, Provider, Spec, SpecError};
use crate::live::View;
use crate::store::{Batch, BatchOutcome, Declaration, Declared, Edit};

use super::super::actor::Actor;
use super::super::error::{ApiError, FieldError};
use super::Api;
use super::body::BodyFields;
use super::expected::{ExpectedGeneration, changed_or_conflict};
use super::json_errors::ValidQuery;
use super::lookup::{check_declarable, find_changeable};
use super::port_warnings::{conflicts_of, warnings};
use super::tasks::{Accepted, create_task, delete_task};

/// Maximum number of entries in a batch.
const MAX_BATCH: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateQuery {
    #[serde(default)]
    dry_run: bool,
}

/// Declare a cluster. `?dry_run=true` only checks it and returns the equivalent command and SQL.
#[utoipa::path(
    post, path = "/api/clusters", tag = "clusters", security(("token" = ["write"])),
    request_body(content = Object, description = "name, provider; optional: {spec}, labels, paused, desired_state"),
    params(("dry_run" = Option<bool>, Query)),
    responses((status = 202, body = Accepted), (status = 200, description = "dry run"), (status = 409), (status = 422))
)]
pub(super) async fn create(
    State(api): State<Api>,
    actor: Actor,
    ValidQuery(query): ValidQuery<CreateQuery>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let mut fields = BodyFields::of_body(&body)?;
    let declaration = declaration(&mut fields);
    fields.finish()?;
    let new = declaration
        .ok_or_else(|| ApiError::Internal("a valid body without a declaration".into()))?;
    check_declarable(&api, &new.name).await?;
    if query.dry_run {
        return super::dry_run::dry_run(&api, &new).await;
    }
    match api.declaring(&actor).declare(&new).await? {
        Declared::New(cluster) => {
            let given = with_given_ports([&new]);
            let conflicts = conflicts_of(&api, &given).await;
            let waiting = api.fleet().await.and_then(|fleet| fleet.waiting(&cluster));
            let task = create_task(&cluster.name, waiting.as_ref())
                .warning(warnings(&conflicts, &cluster.name));
            Ok((StatusCode::ACCEPTED, Json(task)).into_response())
        }
        Declared::Exists(cluster) => Err(ApiError::exists(&cluster.name)),
    }
}

/// The clusters whose ports were not all chosen by the database, which chooses free ones.
fn with_given_ports<'a>(new: impl IntoIterator<Item = &'a Declaration>) -> Vec<ClusterName> {
    let given = |new: &&Declaration| new.spec.host_ports().next().is_some();
    new.into_iter()
        .filter(given)
        .map(|new| new.name.clone())
        .collect()
}

/// Reads a declaration; `None` if it is invalid, with the errors in `fields`.
fn declaration(fields: &mut BodyFields) -> Option<Declaration> {
    let name: Option<ClusterName> = fields.required("name");
    // The API has no default for this field.
    let provider: Option<Provider> = fields.required("provider");
    let mut spec = PartialSpec {
        provider,
        ..PartialSpec::default()
    };
    for field in Spec::FIELDS.iter().filter(|field| field.name != "provider") {
        // A port of the host that is not given gets a free one.
        let missing = || field.host_port_of().is_none().then(|| field.default());
        if let Some(value) = fields.spec_value(field).or_else(missing) {
            spec.set(field, value);
        }
    }
    let labels = fields.labels("labels", false).unwrap_or_else(|| json!({}));
    let paused = fields.flag("paused").unwrap_or(false);
    let desired = desired_state(fields).unwrap_or(Desired::Present);
    provider?;
    let new = Declaration {
        name: name?,
        spec,
        labels,
        paused,
        desired,
    };
    if let Err(error) = new.check() {
        let (field, input) = match &error {
            SpecError::SamePort { other, port, .. } => (*other, json!(port)),
            _ => ("name", json!(new.name)),
        };
        fields.error("value_error", field, error.to_string(), input);
    }
    Some(new)
}

/// The desired state; `absent` needs a DELETE.
fn desired_state(fields: &mut BodyFields) -> Option<Desired> {
    match fields.text("desired_state")? {
        Desired::Absent => {
            let msg = "desired_state \"absent\" is not accepted here: use present or stopped, or DELETE the cluster";
            fields.error("value_error", "desired_state", msg, json!("absent"));
            None
        }
        other => Some(other),
    }
}

/// Change the declaration of a cluster; with a generation, only if it was not changed meanwhile.
#[utoipa::path(
    patch, path = "/api/clusters/{name}", tag = "clusters", security(("token" = ["write"])),
    request_body(content = Object, description = "any of {spec}, labels (null removes one), paused, desired_state; generation (or If-Match): the generation that was read; the request fails if it has changed"),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 200, body = View), (status = 403), (status = 404), (status = 409), (status = 422))
)]
pub(super) async fn change(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: ExpectedGeneration,
    body: Bytes,
) -> Result<Response, ApiError> {
    let (name, before) = find_changeable(&api, &name).await?;
    let mut fields = BodyFields::of_body(&body)?;
    let fixed = Spec::FIELDS.iter().filter(|field| field.fixed);
    for fixed in std::iter::once("name").chain(fixed.map(|field| field.api_name)) {
        if let Some(value) = fields.take(fixed) {
            let msg = format!("{fixed} cannot be changed: delete the cluster and declare it again");
            fields.error("value_error", fixed, msg, value);
        }
    }
    let mut spec = PartialSpec::default();
    for field in Spec::FIELDS.iter().filter(|field| !field.fixed) {
        if let Some(value) = fields.spec_value(field) {
            spec.set(field, value);
        }
    }
    let edit = Edit {
        spec,
        labels: fields.label_changes("labels", &before.labels),
        paused: fields.flag("paused"),
        desired: desired_state(&mut fields),
    };
    let generation = expected.or_in(&mut fields, "generation");
    fields.finish()?;
    let changed = api.declaring(&actor).edit(&name, generation, &edit).await?;
    let cluster = changed_or_conflict(&api, &name, changed).await?;
    let ports = edit.spec.host_ports().next().map(|_| name.clone());
    let conflicts = conflicts_of(&api, ports.as_slice()).await;
    Ok(super::read::one_with(&api, &cluster, &warnings(&conflicts, &name)).await)
}

/// Declare a cluster absent: Kindler deletes it, then removes its row.
#[utoipa::path(
    delete, path = "/api/clusters/{name}", tag = "clusters", security(("token" = ["write"])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "the ETag that was read")),
    responses((status = 202, body = Accepted), (status = 403), (status = 404), (status = 409), (status = 422))
)]
pub(super) async fn delete(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    expected: ExpectedGeneration,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    let (name, _) = find_changeable(&api, &name).await?;
    let declared = api
        .declaring(&actor)
        .set_desired(&name, Desired::Absent, expected.0)
        .await?;
    let cluster = changed_or_conflict(&api, &name, declared).await?;
    let waiting = api.fleet().await.and_then(|fleet| fleet.waiting(&cluster));
    Ok((
        StatusCode::ACCEPTED,
        Json(delete_task(&name, waiting.as_ref())),
    ))
}

/// Declare creations and deletions in one transaction: all of them, or none if one is rejected.
#[utoipa::path(
    post, path = "/api/batch", tag = "clusters", security(("token" = ["write"])),
    request_body(content = Object, description = "create: a list of bodies as for POST /api/clusters; delete: a list of names; at most 500 in total"),
    responses((status = 202, description = "tasks"), (status = 403), (status = 404), (status = 409), (status = 422))
)]
pub(super) async fn batch(
    State(api): State<Api>,
    actor: Actor,
    body: Bytes,
) -> Result<Response, ApiError> {
    let batch = read_batch(&body)?;
    for new in &batch.create {
        check_declarable(&api, &new.name).await?;
    }
    let mut unknown = Vec::new();
    for name in &batch.delete {
        match find_changeable(&api, name.as_str()).await {
            Err(ApiError::NotFound(_)) => unknown.push(name.clone()),
            checked => drop(checked?),
        }
    }
    if !unknown.is_empty() {
        return Err(unknown_in_batch(&unknown));
    }
    match api.declaring(&actor).declare_batch(&batch).await? {
        BatchOutcome::Declared => {
            let conflicts = conflicts_of(&api, &with_given_ports(&batch.create)).await;
            let idle = api.fleet().await.and_then(|fleet| fleet.idle());
            let created = batch.create.iter();
            let created = created.map(|new| {
                create_task(&new.name, idle.as_ref()).warning(warnings(&conflicts, &new.name))
            });
            let deleted = batch
                .delete
                .iter()
                .map(|name| delete_task(name, idle.as_ref()));
            let tasks: Vec<Accepted> = created.chain(deleted).collect();
            Ok((StatusCode::ACCEPTED, Json(json!({ "tasks": tasks }))).into_response())
        }
        BatchOutcome::Rejected { taken, .. } if !taken.is_empty() => Err(ApiError::Conflict(
            format!(
                "nothing was declared, because these clusters already exist: {}",
                names(&taken)
            ),
            None,
        )),
        BatchOutcome::Rejected { unknown, .. } => Err(unknown_in_batch(&unknown)),
    }
}

fn unknown_in_batch(unknown: &[ClusterName]) -> ApiError {
    ApiError::NotFound(format!(
        "nothing was declared, because these clusters were not found: {}",
        names(unknown)
    ))
}

fn names(names: &[ClusterName]) -> String {
    let names: Vec<&str> = names.iter().map(ClusterName::as_str).collect();
    names.join(", ")
}

fn read_batch(body: &[u8]) -> Result<Batch, ApiError> {
    let mut fields = BodyFields::of_body(body)?;
    let (create, delete) = (list(&mut fields, "create"), list(&mut fields, "delete"));
    let count = create.len() + delete.len();
    if count == 0 || count > MAX_BATCH {
        let msg = format!("create and delete have {count} entries in total: use 1 to {MAX_BATCH}");
        fields.error("value_error", "create", msg, json!(count));
    }
    let mut errors = fields.errors();
    let (mut batch, mut named) = (Batch::default(), HashSet::new());
    for (n, one) in create.into_iter().enumerate().take(MAX_BATCH) {
        let at = vec![json!("body"), json!("create"), json!(n)];
        match BodyFields::of(one, at) {
            Ok(mut fields) => {
                let new = declaration(&mut fields);
                let name = new.as_ref().map(|new| new.name.clone());
                if let Some(again) = name.filter(|name| !named.insert(name.clone())) {
                    fields.error("value_error", "name", named_twice(&again), json!(again));
                }
                batch.create.extend(new);
                errors.extend(fields.errors());
            }
            Err(error) => errors.push(error),
        }
    }
    for (n, one) in delete.into_iter().enumerate().take(MAX_BATCH) {
        let name = one.as_str().unwrap_or_default().parse::<ClusterName>();
        let invalid = match &name {
            Ok(name) if named.insert(name.clone()) => None,
            Ok(name) => Some(named_twice(name)),
            Err(error) => Some(error.to_string()),
        };
        batch.delete.extend(name);
        errors.extend(invalid.map(|msg| FieldError {
            kind: "value_error",
            loc: vec![json!("body"), json!("delete"), json!(n)],
            msg,
            input: one,
        }));
    }
    if errors.is_empty() {
        Ok(batch)
    } else {
        Err(ApiError::Invalid(errors))
    }
}

/// A name twice in a batch is ambiguous.
fn named_twice(name: &ClusterName) -> String {
    format!("{name} is named twice in this batch: name it once, in create or in delete")
}

fn list(fields: &mut BodyFields, field: &str) -> Vec<Value> {
    match fields.take(field) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(other) => {
            fields.error(
                "list_type",
                field,
                format!("{field}: expected a list"),
                other,
            );
            Vec::new()
        }
    }
}
