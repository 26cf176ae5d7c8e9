//! Errors of the native driver, and whether a retry may help.

use std::path::PathBuf;

use ipnet::Ipv4Net;

use crate::core::steps::StepError;

use super::super::KubeconfigError;
use super::api_client::KubeApiError;
use super::engine::EngineError;
use super::kubeconfig::KubeconfigFault;
use super::limit::StepLimit;
use super::user_kubeconfig::MergeError;

/// Why a step of a real cluster failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NativeError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its containers say nothing about the clusters of the other one.
    #[error(
        "another container engine answers: {answering}, and the clusters were made on {recorded}; \
         correct DOCKER_HOST, or remove {} if those clusters are gone for good", file.display()
    )]
    OtherEngine {
        answering: String,
        recorded: String,
        file: PathBuf,
    },
    /// As above, for one row: another host may have another engine behind the same setting.
    #[error(
        "another container engine answers: {answering}, and this cluster was made on {recorded}; \
         correct DOCKER_HOST, or, if it is gone for good: kindler adopt {name}"
    )]
    EngineOfRow {
        answering: String,
        recorded: String,
        name: String,
    },
    #[error("could not {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigFault),
    #[error("its kubeconfig cannot be read")]
    NoKubeconfig(#[source] KubeconfigError),
    #[error("it is not ready: {0}")]
    NotReady(String),
    #[error("it was not ready within {within}: {why}")]
    NotReadyWithin { why: String, within: StepLimit },
    #[error("its {0}")]
    Broken(String),
    /// The engine would take any of them, so no cluster can be created.
    #[error("several networks are named {name}: remove one of them: docker network rm {id}")]
    SeveralNetworks { name: String, id: String },
    #[error("subnet {subnet} overlaps with that of the network {neighbour}: choose another")]
    SubnetTaken { subnet: Ipv4Net, neighbour: String },
    #[error("{field} {port} is in use by {by}: end that, or declare another port")]
    PortTaken {
        field: &'static str,
        port: u16,
        by: String,
    },
    /// k3d and kind cannot change it.
    #[error("it needs to be created again: {0}")]
    NeedsRecreation(String),
    /// A cluster of that name exists, and this row did not make it.
    #[error("{0}")]
    Foreign(String),
    #[error(transparent)]
    Api(#[from] KubeApiError),
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// Neither its nodes nor the engine have them, and nothing is pulled.
    #[error(
        "neither its nodes nor this host have {}: docker pull {}, or KINDLER_PULL_IMAGES=true",
        .0.join(", "), .0[0]
    )]
    NoImages(Vec<String>),
    #[error("`{program}` in {node} exited with {code}: {said}")]
    NodeProgram {
        node: String,
        program: String,
        code: i64,
        said: String,
    },
    #[error(transparent)]
    Step(#[from] StepError),
}

impl NativeError {
    pub(super) fn into_step_error(self) -> StepError {
        let summary = crate::cause::chain(&self);
        let permanent = |detail: &str| StepError::Permanent {
            summary: summary.clone(),
            detail: detail.to_owned(),
        };
        match self {
            Self::Step(error) => error,
            Self::Merge(MergeError::Interrupted) => StepError::Interrupted,
            Self::NeedsRecreation(_) => {
                permanent("declare the old value again, or delete the cluster and create it again")
            }
            Self::Foreign(_) => {
                permanent("kindler adopt takes it over; or delete it by hand, or use another name")
            }
            Self::SubnetTaken { .. } | Self::SeveralNetworks { .. } => permanent(""),
            Self::Engine(_)
            | Self::OtherEngine { .. }
            | Self::EngineOfRow { .. }
            | Self::PortTaken { .. }
            | Self::File { .. }
            | Self::Kubeconfig(_)
            | Self::NoKubeconfig(_)
            | Self::NotReady(_)
            | Self::NotReadyWithin { .. }
            | Self::Api(_)
            | Self::Merge(_)
            | Self::NoImages(_)
            | Self::NodeProgram { .. }
            | Self::Broken(_) => StepError::transient(summary),
        }
    }
}
