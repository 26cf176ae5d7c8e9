//! The steps of a cluster: what its driver has done, does and will try again.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::clusters::Cluster;
use crate::live::{StepView, View};

use super::super::error::ApiError;
use super::Api;
use super::named::{known, named};

/// A cluster with its steps. Lists and the stream omit the steps.
#[derive(Serialize, ToSchema)]
pub(super) struct Detailed {
    #[serde(flatten)]
    view: View,
    /// The steps of its driver, in order.
    steps: Vec<StepView>,
}

/// A cluster and what is recorded of the same row.
pub(super) async fn detailed(api: &Api, cluster: &Cluster) -> Result<Detailed, ApiError> {
    Ok(Detailed {
        view: View::of(cluster, None),
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
    let cluster = known(&api, &named(&name)?).await?;
    of(&api, &cluster).await.map(Json)
}
