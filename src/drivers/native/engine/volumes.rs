//! The volumes that k3d makes beside the containers of a cluster.

use std::collections::HashMap;

use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions};

use super::{Engine, EngineError, NOT_FOUND, request};

impl Engine {
    /// Removes the volumes that k3d labelled for a cluster without containers.
    pub async fn remove_volumes(&self, cluster: &str) -> Result<(), EngineError> {
        let labels = vec!["app=k3d".to_owned(), format!("k3d.cluster={cluster}")];
        let filters = HashMap::from([("label", labels)]);
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let docker = self.docker()?;
        let listed = request("list volumes", docker.list_volumes(Some(options))).await?;
        for volume in listed.volumes.unwrap_or_default() {
            let removed = docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>);
            match request("remove a volume", removed).await {
                Err(error) if error.status() == Some(NOT_FOUND) => {}
                removed => removed?,
            }
        }
        Ok(())
    }
}
