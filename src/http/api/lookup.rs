//! Looks up the cluster that a request names, and checks whether the API may
//! change it.

use crate::clusters::{Cluster, ClusterName};

use super::super::error::ApiError;
use super::Api;

/// Parses a name from a path; an invalid name gets 404.
pub(super) fn parse_name(name: &str) -> Result<ClusterName, ApiError> {
    name.parse().map_err(|_| ApiError::unknown(name))
}

/// The cluster of this name, or 404.
pub(super) async fn find(api: &Api, name: &ClusterName) -> Result<Cluster, ApiError> {
    let found = api.store.get(name).await?;
    found.ok_or_else(|| ApiError::unknown(name.as_str()))
}

/// The cluster of this name, or 403 if the API may not change it.
pub(super) async fn find_changeable(
    api: &Api,
    name: &str,
) -> Result<(ClusterName, Cluster), ApiError> {
    let name = parse_name(name)?;
    if name.is_management() {
        return Err(management(&name));
    }
    let cluster = find(api, &name).await?;
    if cluster.protected {
        return Err(ApiError::Forbidden(format!("Cluster {name} is protected")));
    }
    Ok((name, cluster))
}

/// Rejects the name of the management cluster for a new cluster.
pub(super) async fn check_declarable(api: &Api, name: &ClusterName) -> Result<(), ApiError> {
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
