//! The cluster that a request names: whether it is there, and whether people may
//! declare or change it from here.

use crate::clusters::{Cluster, ClusterName};

use super::super::error::ApiError;
use super::Api;

/// A name from a path. One that cannot be a name is the name of no cluster.
pub(super) fn named(name: &str) -> Result<ClusterName, ApiError> {
    name.parse().map_err(|_| ApiError::unknown(name))
}

/// The cluster of this name.
pub(super) async fn known(api: &Api, name: &ClusterName) -> Result<Cluster, ApiError> {
    let found = api.store.get(name).await?;
    found.ok_or_else(|| ApiError::unknown(name.as_str()))
}

/// The cluster of this name, if people may change it.
pub(super) async fn free_to_change(
    api: &Api,
    name: &str,
) -> Result<(ClusterName, Cluster), ApiError> {
    let name = named(name)?;
    if name.is_management() {
        return Err(management(&name));
    }
    let cluster = known(api, &name).await?;
    if cluster.protected {
        return Err(ApiError::Forbidden(format!("Cluster {name} is protected")));
    }
    Ok((name, cluster))
}

/// That a cluster of this name may be declared here at all.
pub(super) async fn free_to_declare(api: &Api, name: &ClusterName) -> Result<(), ApiError> {
    if name.is_management() && api.store.get(name).await?.is_none() {
        return Err(management(name));
    }
    Ok(())
}

fn management(name: &ClusterName) -> ApiError {
    ApiError::Forbidden(format!(
        "Cluster {name} is the management cluster: the API does not change it"
    ))
}
