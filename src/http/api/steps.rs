//! The steps of a cluster's driver.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::clusters::Cluster;
use crate::live::{StepView, View};

use super::super::error::ApiError;
use super::Api;
use super::lookup::{find, parse_name};

/// A cluster with its steps. Lists and the stream omit the steps.
#[derive(Serialize, ToSchema)]
#[schema(as = Detailed)]
pub(super) struct ClusterWithSteps {
    #[serde(flatten)]
    view: View,
    /// The steps of its driver, in order.
    steps: Vec<StepView>,
}

/// A cluster with the steps of the same row.
pub(super) async fn with_steps(api: &Api, cluster: &Cluster) -> Result<ClusterWithSteps, ApiError> {
    Ok(ClusterWithSteps {
        view: View::within(cluster, None, api.fleet().await.as_deref()),
        steps: of(api, cluster).await?,
    })
}

async fn of(api: &Api, cluster: &Cluster) -> Result<Vec<StepView>, ApiError> {
    Ok(StepView::of_records(api.store.steps(cluster.uid).await?))
}

/// The driver's steps of a cluster, in order; empty before the first action. A driver that runs
/// one command has one step.
#[utoipa::path(get, path = "/api/clusters/{name}/steps", tag = "clusters", security(("token" = ["read"])),
    params(("name" = String, Path)), responses((status = 200, body = Vec<StepView>), (status = 404)))]
pub(super) async fn steps(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Vec<StepView>>, ApiError> {
    let cluster = find(&api, &parse_name(&name)?).await?;
    of(&api, &cluster).await.map(Json)
}
