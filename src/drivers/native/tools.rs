//! The command lines of k3d and kind, and what their failures mean. It runs them, and never
//! judges whether the cluster works.

use std::path::Path;
use std::time::Duration;

use crate::clusters::plan::Action;
use crate::clusters::{Cluster, Provider};
use crate::command::{CommandLimits, CommandLine, SpawnError};
use crate::core::steps::StepError;

use super::super::{ActionRequest, failure};
use super::NativeSettings;

/// The images of the nodes; the tools' own defaults without them.
#[derive(Clone, Debug, Default)]
pub struct NodeImages {
    /// Of k3d, such as `rancher/k3s:v1.31.5-k3s1`.
    pub k3d: Option<String>,
    /// Of kind, such as `kindest/node:v1.31.12`.
    pub kind: Option<String>,
}

impl NodeImages {
    /// That of the nodes of this provider, if one is set.
    pub fn of(&self, provider: Provider) -> Option<&str> {
        match provider {
            Provider::K3d => self.k3d.as_deref(),
            Provider::Kind => self.kind.as_deref(),
        }
    }
}

/// `k3d cluster create` or `kind create cluster`. `config` is the file of [`kind_config`].
pub(super) fn create(
    cluster: &Cluster,
    images: &NodeImages,
    network: &str,
    (kubeconfig, config): (&Path, &Path),
) -> CommandLine {
    let name = cluster.name.as_str();
    let (http, https) = (cluster.spec.http_port, cluster.spec.https_port);
    match cluster.spec.provider {
        Provider::K3d => {
            let mut args = vec!["cluster".to_owned(), "create".into(), name.into()];
            if let Some(image) = &images.k3d {
                args.extend(["--image".into(), image.clone()]);
            }
            args.extend(["--network".into(), network.into()]);
            for (option, count) in [("--servers", "1"), ("--agents", "0")] {
                args.extend([option.into(), count.into()]);
            }
            for port in [format!("{http}:80"), format!("{https}:443")] {
                args.extend(["--port".into(), format!("{port}@loadbalancer")]);
            }
            // Parallel merges into one file lose contexts.
            args.push("--kubeconfig-update-default=false".into());
            CommandLine::new("k3d", args)
        }
        Provider::Kind => {
            let mut line =
                CommandLine::new("kind", ["create", "cluster", "--name", name, "--config"]);
            line.args.push(config.into());
            line.args.push("--kubeconfig".into());
            line.args.push(kubeconfig.into());
            if let Some(image) = &images.kind {
                line.args.extend(["--image".into(), image.into()]);
            }
            line
        }
    }
}

/// The configuration of a kind cluster: one node, which publishes both ports. Its API server
/// listens on every address, because Argo CD reaches it from another network.
pub(super) fn kind_config(cluster: &Cluster) -> String {
    let (http, https) = (cluster.spec.http_port, cluster.spec.https_port);
    format!(
        "kind: Cluster\n\
         apiVersion: kind.x-k8s.io/v1alpha4\n\
         networking:\n  apiServerAddress: 0.0.0.0\n\
         nodes:\n\
         - role: control-plane\n  extraPortMappings:\n\
         \x20 - containerPort: 80\n    hostPort: {http}\n    protocol: TCP\n\
         \x20 - containerPort: 443\n    hostPort: {https}\n    protocol: TCP\n"
    )
}

/// `k3d cluster delete` or `kind delete cluster`, which remove every leftover.
pub(super) fn delete(cluster: &Cluster, kubeconfig: &Path) -> CommandLine {
    let name = cluster.name.as_str();
    match cluster.spec.provider {
        Provider::K3d => CommandLine::new("k3d", ["cluster", "delete", name]),
        Provider::Kind => {
            let mut line = CommandLine::new("kind", ["delete", "cluster", "--name", name]);
            line.args.push("--kubeconfig".into());
            line.args.push(kubeconfig.into());
            line
        }
    }
}

/// `k3d cluster start`: a bare start of its containers loses `host.k3d.internal`.
pub(super) fn start_k3d(cluster: &Cluster) -> CommandLine {
    CommandLine::new("k3d", ["cluster", "start", cluster.name.as_str()])
}

/// Runs a tool for an action, and logs its output.
pub(super) async fn run(
    settings: &NativeSettings,
    line: &CommandLine,
    (action, left): (Action, Duration),
    request: &ActionRequest<'_>,
) -> Result<(), StepError> {
    let (name, uid) = (request.cluster.name.as_str(), request.cluster.uid);
    let mut log = settings.logs.log(name, uid, request.heading(action));
    let limits = CommandLimits {
        deadline: left,
        grace: settings.deadlines.grace,
    };
    let (runner, trust) = (&settings.runner, request.trust.clone());
    let ran = runner.run(line, &limits, trust, request.cancel, Some(&mut log));
    let ran = ran.await;
    let remedy = |_: &SpawnError| {
        let program = line.program.display();
        format!("install {program} into the daemon's PATH, then kindler retry {name}")
    };
    let deadline = settings.deadlines.setting(action);
    failure::action_result(line, remedy, ran, &log, &deadline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusters::samples;

    #[test]
    fn the_tools_are_called_as_the_old_scripts_call_them() {
        let mut dev = samples::dev();
        let paths = (Path::new("/s/kubeconfig"), Path::new("/s/kind.yaml"));
        let images = NodeImages {
            k3d: Some("rancher/k3s:v1.31.5-k3s1".into()),
            kind: Some("kindest/node:v1.31.12".into()),
        };
        assert_eq!(
            create(&dev, &images, "k3d-shared", paths).to_string(),
            "k3d cluster create dev --image rancher/k3s:v1.31.5-k3s1 --network k3d-shared \
             --servers 1 --agents 0 --port 18080:80@loadbalancer --port 18443:443@loadbalancer \
             --kubeconfig-update-default=false"
        );
        dev.spec.provider = Provider::Kind;
        assert_eq!(
            create(&dev, &images, "kind", paths).to_string(),
            "kind create cluster --name dev --config /s/kind.yaml --kubeconfig /s/kubeconfig \
             --image kindest/node:v1.31.12"
        );
        let config = kind_config(&dev);
        for part in [
            "hostPort: 18080\n",
            "containerPort: 443\n",
            "apiServerAddress: 0.0.0.0",
        ] {
            assert!(config.contains(part), "{config}");
        }
    }
}
