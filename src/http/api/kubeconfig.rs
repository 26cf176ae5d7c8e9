//! The kubeconfig of a cluster, read by the driver of this host.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::drivers::KubeconfigError;

use super::super::error::ApiError;
use super::Api;
use super::lookup::{find, parse_name};

/// The error of a server that does not reconcile.
const NO_DRIVER: &str =
    "This server manages no clusters: ask the API on the host of the daemon that does";

/// The kubeconfig of a cluster, from its provider. It gives full access to the cluster.
#[utoipa::path(get, path = "/api/clusters/{name}/kubeconfig", tag = "clusters", security(("token" = ["admin"])),
    params(("name" = String, Path)),
    responses((status = 200, description = "YAML"), (status = 404, description = "no such cluster, or no kubeconfig; detail says why")))]
pub(super) async fn kubeconfig(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let cluster = find(&api, &parse_name(&name)?).await?;
    let Some(driver) = &api.driver else {
        return Err(ApiError::NotFound(NO_DRIVER.to_owned()));
    };
    let read = driver.kubeconfig(&cluster).await;
    let config = read.map_err(|error| {
        ApiError::NotFound(match error {
            KubeconfigError::None(why) => why.to_owned(),
            KubeconfigError::Failed(why) => {
                format!("There is no kubeconfig of cluster {name}: {why}")
            }
        })
    })?;
    let headers = [
        (header::CONTENT_TYPE, "application/yaml".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{}.yaml\"", cluster.name),
        ),
    ];
    Ok((headers, config.0).into_response())
}
