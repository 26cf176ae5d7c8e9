//! Checks a declaration without writing it: conflicts, and the equivalent command
//! and SQL.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::clusters::{Actual, Port};
use crate::live::View;
use crate::store::Declaration;

use super::super::error::ApiError;
use super::Api;

pub(super) async fn dry_run(api: &Api, new: &Declaration) -> Result<Response, ApiError> {
    if api.store.get(&new.name).await?.is_some() {
        return Err(ApiError::exists(&new.name));
    }
    let body = json!({
        "valid": true,
        "warnings": warnings(api, new).await?,
        "info": info(new),
        "cli": command(new),
        "sql": new.as_sql(),
    });
    Ok(Json(body).into_response())
}

/// The cluster as a list would show it.
fn info(new: &Declaration) -> View {
    let port = |port: Option<Port>| port.map_or(0, Port::get);
    View {
        name: new.name.to_string(),
        provider: new.provider.to_string(),
        cluster_subnet: new.subnet.map(|subnet| subnet.to_string()),
        node_port: port(new.node_port),
        pf_port: port(new.pf_port),
        http_port: port(new.http_port),
        https_port: port(new.https_port),
        register_portainer: new.register_portainer,
        haproxy_route: new.haproxy_route,
        register_argocd: new.register_argocd,
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
    let port = |port: Option<Port>| port.map_or(0, Port::get);
    let (pf, http, https) = (port(new.pf_port), port(new.http_port), port(new.https_port));
    let mut warnings = Vec::new();
    let mut warn = |field: &str, message: String| {
        warnings.push(json!({ "field": field, "message": message }));
    };
    for user in api.store.port_users(&new.name, pf, [http, https]).await? {
        let name = user.name;
        if user.pf {
            warn(
                "pf_port",
                format!("pf_port {pf} is also declared by cluster {name}"),
            );
        }
        if user.web {
            warn(
                "http_port",
                format!(
                    "http_port {http} or https_port {https} is also declared by cluster {name}"
                ),
            );
        }
    }
    Ok(warnings)
}

/// The values are validated, so none needs quoting for a shell.
fn command(new: &Declaration) -> String {
    let mut command = format!("kindler create {} --provider {}", new.name, new.provider);
    for (flag, port) in [
        ("node-port", new.node_port),
        ("pf-port", new.pf_port),
        ("http-port", new.http_port),
        ("https-port", new.https_port),
    ] {
        if let Some(port) = port {
            command.push_str(&format!(" --{flag} {port}"));
        }
    }
    if let Some(subnet) = new.subnet {
        command.push_str(&format!(" --subnet {subnet}"));
    }
    for (flag, on) in [
        ("no-register-portainer", new.register_portainer),
        ("no-haproxy-route", new.haproxy_route),
        ("no-register-argocd", new.register_argocd),
    ] {
        if !on {
            command.push_str(&format!(" --{flag}"));
        }
    }
    command
}
