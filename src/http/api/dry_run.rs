//! Checks a declaration without writing it: conflicts, and the equivalent command
//! and SQL.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::clusters::Actual;
use crate::live::{SpecView, View};
use crate::store::Declaration;

use super::super::error::ApiError;
use super::Api;

pub(super) async fn dry_run(api: &Api, new: &Declaration) -> Result<Response, ApiError> {
    if api.store.get(&new.name).await?.is_some() {
        return Err(ApiError::exists(&new.name));
    }
    let mut complete = new.clone();
    complete.spec = api.store.with_free_ports(&new.spec).await?;
    let body = json!({
        "valid": true,
        "warnings": warnings(api, &complete).await?,
        "info": info(&complete),
        "cli": command(new),
        "sql": new.as_sql(),
    });
    Ok(Json(body).into_response())
}

/// The cluster as a list would show it.
fn info(new: &Declaration) -> View {
    View {
        name: new.name.to_string(),
        spec: SpecView::of(new.spec.or_default()),
        status: Actual::Unknown.to_string(),
        desired_state: new.desired.to_string(),
        actual_state: Actual::Unknown.to_string(),
        labels: new.labels.clone(),
        paused: new.paused,
        generation: 1,
        ..View::default()
    }
}

/// Ports that other clusters declare. That is no error, because it fails only if
/// both clusters run on one host.
async fn warnings(api: &Api, new: &Declaration) -> Result<Vec<Value>, ApiError> {
    let users = api
        .store
        .port_users(&new.name, &new.spec.or_default())
        .await?;
    let mut warnings = Vec::new();
    for user in users {
        let name = user.name;
        for pool in user.pools {
            let of_pool = new
                .spec
                .host_ports()
                .filter(|(field, _)| field.host_port_of().is_some_and(|host| host.pool == pool));
            let of_pool: Vec<_> = of_pool.collect();
            let ports = of_pool
                .iter()
                .map(|(field, port)| format!("{} {port}", field.name));
            let ports = ports.collect::<Vec<_>>().join(" or ");
            warnings.push(json!({
                "field": of_pool.first().map(|(field, _)| field.api_name),
                "message": format!("{ports} is also declared by cluster {name}"),
            }));
        }
    }
    Ok(warnings)
}

/// The values are validated, so none needs quoting for a shell.
fn command(new: &Declaration) -> String {
    let mut command = format!("kindler create {}", new.name);
    for (field, value) in new.spec.listed() {
        match field.option_for(value) {
            Some((option, Some(value))) => command.push_str(&format!(" --{option} {value}")),
            Some((option, None)) => command.push_str(&format!(" --{option}")),
            None => {}
        }
    }
    command
}
