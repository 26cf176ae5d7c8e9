//! The command lines of the script driver. Pure: it runs nothing.

use std::path::{Path, PathBuf};

use crate::clusters::plan::Action;
use crate::clusters::{Cluster, FieldKind, Provider};
use crate::command::{CommandLine, SpawnError};

use super::super::program::permitting;
use super::{ActionRequest, ScriptSettings, StepError};

/// The environment variables of a command, and their meaning.
pub const CONTEXT_ENV: &[(&str, &str)] = &[
    ("KINDLER_NAME", "the cluster's name"),
    (
        "KINDLER_UID",
        "the row's identity; a later row of the same name has another",
    ),
    ("KINDLER_PROVIDER", "k3d or kind"),
    ("KINDLER_GENERATION", "the generation of the row"),
    (
        "KINDLER_ACTION",
        "create, update, start, stop, delete, probe or exists",
    ),
    ("KINDLER_SUBNET", "the row's subnet; unset if it has none"),
    (
        "KINDLER_TERM",
        "the lease's term, larger for every later claim; not set for probe and exists",
    ),
    ("KINDLER_FENCE", "the old name of KINDLER_TERM"),
    (
        "KINDLER_ATTEMPT",
        "the number of this attempt in a row, from 1; not set for probe and exists",
    ),
];

/// The settings of the commands.
pub(super) const CREATE: &str = "KINDLER_CREATE_COMMAND";
pub(super) const DELETE: &str = "KINDLER_DELETE_COMMAND";
pub(super) const PROBE: &str = "KINDLER_PROBE_COMMAND";
pub(super) const EXISTS: &str = "KINDLER_EXISTS_COMMAND";
pub(super) const START: &str = "KINDLER_START_COMMAND";
pub(super) const STOP: &str = "KINDLER_STOP_COMMAND";

/// A command line, and the setting of its program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) line: CommandLine,
    /// The setting of the program.
    pub(super) setting: &'static str,
    /// Whether the setting is set; otherwise the program is the default.
    pub(super) configured: bool,
}

impl Call {
    fn new<const N: usize>(
        setting: &'static str,
        program: Option<&Path>,
        default: &str,
        args: [&str; N],
    ) -> Self {
        Self {
            line: CommandLine::new(program.unwrap_or(Path::new(default)), args),
            setting,
            configured: program.is_some(),
        }
    }

    /// `PROGRAM NAME PROVIDER`, the form of all commands but create and delete.
    fn short(setting: &'static str, program: &Path, cluster: &Cluster) -> Self {
        let args = [cluster.name.as_str(), cluster.spec.provider.as_str()];
        Self::new(setting, Some(program), "", args)
    }

    /// What a person can do when the program cannot be started.
    pub(super) fn remedy(&self, error: &SpawnError) -> String {
        let is_name = |(name, _): &&(String, String)| name == "KINDLER_NAME";
        let cluster = self.line.env.iter().find(is_name);
        let cluster = cluster.map_or("NAME", |(_, value)| value);
        match error {
            SpawnError::NotExecutable { program, .. } => {
                let next = permitting(program).unwrap_or_else(|| self.correct_setting());
                format!("{next}, then kindler retry {cluster}")
            }
            SpawnError::InterpreterMissing { program, .. } => {
                let program = program.display();
                format!(
                    "install it or correct the first line of {program}, then kindler retry {cluster}"
                )
            }
            SpawnError::NoFormat { program } => {
                let program = program.display();
                format!(
                    "let {program} begin with a line such as #!/bin/bash, then kindler retry {cluster}"
                )
            }
            SpawnError::ProgramMissing { .. } => {
                format!("{}, then kindler retry {cluster}", self.correct_setting())
            }
            SpawnError::StateFolder { .. } => {
                "check the disk or mount of KINDLER_STATE_DIR".to_owned()
            }
            SpawnError::Start { .. }
            | SpawnError::Guard { .. }
            | SpawnError::GuardSilent { .. } => {
                "kindler doctor checks the host and the commands".to_owned()
            }
        }
    }

    fn correct_setting(&self) -> String {
        if self.configured {
            format!("restore it or correct {}", self.setting)
        } else {
            let program = self.line.program.display();
            format!("install {program}, or set {}", self.setting)
        }
    }

    /// Sets the environment variables.
    fn with_context(mut self, cluster: &Cluster, action: &str) -> Self {
        let set = |name: &str, value: &dyn ToString| (name.to_owned(), value.to_string());
        self.line.env = vec![
            set("KINDLER_NAME", &cluster.name),
            set("KINDLER_UID", &cluster.uid),
            set("KINDLER_PROVIDER", &cluster.spec.provider),
            set("KINDLER_GENERATION", &cluster.generation),
            set("KINDLER_ACTION", &action),
        ];
        if let Some(subnet) = &cluster.spec.subnet {
            self.line.env.push(set("KINDLER_SUBNET", subnet));
        }
        self
    }
}

/// The command of an action.
pub(super) fn action(
    settings: &ScriptSettings,
    action: Action,
    request: &ActionRequest<'_>,
) -> Result<Call, StepError> {
    let cluster = request.cluster;
    let call = match action {
        Action::Create | Action::Update => {
            let create = required(CREATE, settings.create.as_ref(), "create_env.sh")?;
            let mut call = Call::new(CREATE, Some(create), "", []);
            call.line.args = spec_args(cluster).into_iter().map(Into::into).collect();
            call
        }
        Action::Delete => {
            let delete = required(DELETE, settings.delete.as_ref(), "delete_env.sh")?;
            let (name, provider) = (cluster.name.as_str(), cluster.spec.provider.as_str());
            Call::new(DELETE, Some(delete), "", ["-n", name, "-p", provider])
        }
        Action::Start => start_or_stop(START, settings.start.as_deref(), "start", cluster),
        Action::Stop => start_or_stop(STOP, settings.stop.as_deref(), "stop", cluster),
    };
    let mut call = call.with_context(cluster, action.as_str());
    let (term, attempt) = (request.term.to_string(), request.attempt().to_string());
    call.line.env.extend([
        ("KINDLER_TERM".to_owned(), term.clone()),
        ("KINDLER_FENCE".to_owned(), term),
        ("KINDLER_ATTEMPT".to_owned(), attempt),
    ]);
    Ok(call)
}

/// What a person runs to remove a cluster by hand.
pub(super) fn removal(settings: &ScriptSettings, cluster: &Cluster) -> String {
    let (name, provider) = (cluster.name.as_str(), cluster.spec.provider);
    match (&settings.delete, provider) {
        (Some(delete), _) => format!("{} -n {name} -p {provider}", delete.display()),
        (None, Provider::K3d) => format!("k3d cluster delete {name}"),
        (None, Provider::Kind) => format!("kind delete cluster --name {name}"),
    }
}

fn required<'a>(
    setting: &'static str,
    program: Option<&'a PathBuf>,
    example: &str,
) -> Result<&'a Path, StepError> {
    program
        .map(PathBuf::as_path)
        .ok_or_else(|| StepError::Permanent {
            summary: format!("{setting} is not set"),
            detail: format!("set {setting} to the path of the host's {example}"),
        })
}

/// The options of `create_env.sh`: every port, and the flags that differ from their
/// defaults. The script registers the cluster unless an option says not to.
pub(super) fn spec_args(cluster: &Cluster) -> Vec<String> {
    let spec = &cluster.spec;
    let mut args = vec![
        "-n".to_owned(),
        cluster.name.to_string(),
        "-p".to_owned(),
        spec.provider.to_string(),
    ];
    for (field, value) in spec.values() {
        // The provider is `-p`, the subnet is KINDLER_SUBNET.
        if matches!(field.kind, FieldKind::Provider | FieldKind::Subnet) {
            continue;
        }
        if let Some((option, value)) = field.option_for(value) {
            args.push(format!("--{option}"));
            args.extend(value);
        }
    }
    args
}

/// The command to start or stop: the host's own, or that of the provider.
fn start_or_stop(
    setting: &'static str,
    program: Option<&Path>,
    verb: &'static str,
    cluster: &Cluster,
) -> Call {
    match (program, cluster.spec.provider) {
        (Some(program), _) => Call::short(setting, program, cluster),
        (None, Provider::K3d) => Call::new(
            setting,
            None,
            "k3d",
            ["cluster", verb, cluster.name.as_str()],
        ),
        (None, Provider::Kind) => Call::new(setting, None, "docker", [verb, &kind_node(cluster)]),
    }
}

/// The container of a kind cluster's only node.
fn kind_node(cluster: &Cluster) -> String {
    format!("{}-control-plane", cluster.name)
}

/// The command that probes a cluster.
pub(super) fn probe(settings: &ScriptSettings, cluster: &Cluster) -> Call {
    let call = match &settings.probe {
        Some(program) => Call::short(PROBE, program, cluster),
        None => {
            let context = cluster.spec.provider.context(&cluster.name);
            Call::new(
                PROBE,
                None,
                "kubectl",
                ["--context", &context, "get", "nodes"],
            )
        }
    };
    call.with_context(cluster, "probe")
}

/// The command that checks whether a cluster exists; each has its own form of output.
#[derive(Debug)]
pub(super) enum ExistenceQuery {
    Configured(Call),
    K3dList(Call),
    KindList(Call),
}

impl ExistenceQuery {
    pub(super) fn of(settings: &ScriptSettings, cluster: &Cluster) -> Self {
        let with_context = |call: Call| call.with_context(cluster, "exists");
        match (&settings.exists, cluster.spec.provider) {
            (Some(program), _) => {
                Self::Configured(with_context(Call::short(EXISTS, program, cluster)))
            }
            (None, Provider::K3d) => {
                let args = ["cluster", "list", "-o", "json"];
                Self::K3dList(with_context(Call::new(EXISTS, None, "k3d", args)))
            }
            (None, Provider::Kind) => {
                let args = ["get", "clusters"];
                Self::KindList(with_context(Call::new(EXISTS, None, "kind", args)))
            }
        }
    }

    /// How it finds that a cluster does not exist.
    pub(super) fn absence(&self) -> String {
        let line = &self.call().line;
        match self {
            Self::Configured(_) => format!("`{line}` exited with code 1"),
            Self::K3dList(_) | Self::KindList(_) => {
                format!("`{line}` exited with code 0 and does not list it")
            }
        }
    }

    pub(super) fn call(&self) -> &Call {
        match self {
            Self::Configured(call) | Self::K3dList(call) | Self::KindList(call) => call,
        }
    }
}

/// The command that reads the state of a kind cluster's node from the container runtime.
pub(super) fn kind_node_state(cluster: &Cluster) -> Call {
    let format = "--format={{.State.Status}}";
    let args = ["container", "inspect", format, &kind_node(cluster)];
    Call::new(EXISTS, None, "docker", args).with_context(cluster, "exists")
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::clusters::samples;
    use crate::command::{LogDir, unconditional_trust};
    use crate::core::lease::Term;

    fn settings() -> ScriptSettings {
        ScriptSettings {
            create: Some("/opt/create_env.sh".into()),
            delete: Some("/opt/delete_env.sh".into()),
            ..ScriptSettings::new(LogDir::new("/logs"))
        }
    }

    fn line(settings: &ScriptSettings, what: Action, cluster: &Cluster) -> String {
        let cancel = CancellationToken::new();
        let request = ActionRequest {
            cluster,
            term: Term(17),
            trust: unconditional_trust(),
            cancel: &cancel,
        };
        action(settings, what, &request).unwrap().line.to_string()
    }

    #[test]
    fn create_and_update_pass_every_port_and_disabled_option() {
        let mut dev = samples::dev();
        let full = "/opt/create_env.sh -n dev -p k3d --node-port 30080 --pf-port 19000 \
                    --http-port 18080 --https-port 18443";
        assert_eq!(line(&settings(), Action::Create, &dev), full);
        assert_eq!(line(&settings(), Action::Update, &dev), full);
        dev.spec.register_portainer = false;
        dev.spec.haproxy_route = false;
        dev.spec.register_argocd = false;
        assert_eq!(
            line(&settings(), Action::Create, &dev),
            format!("{full} --no-register-portainer --no-haproxy-route --no-register-argocd")
        );
    }

    #[test]
    fn without_a_setting_the_providers_command_is_used() {
        let mut dev = samples::dev();
        let none = settings();
        let lines = |cluster: &Cluster| {
            [
                line(&none, Action::Start, cluster),
                line(&none, Action::Stop, cluster),
                probe(&none, cluster).line.to_string(),
                ExistenceQuery::of(&none, cluster).call().line.to_string(),
            ]
        };
        assert_eq!(
            lines(&dev),
            [
                "k3d cluster start dev",
                "k3d cluster stop dev",
                "kubectl --context k3d-dev get nodes",
                "k3d cluster list -o json"
            ]
        );
        dev.spec.provider = Provider::Kind;
        assert_eq!(
            lines(&dev),
            [
                "docker start dev-control-plane",
                "docker stop dev-control-plane",
                "kubectl --context kind-dev get nodes",
                "kind get clusters"
            ]
        );
    }

    #[test]
    fn the_documented_variables_are_those_that_are_set() {
        let mut dev = samples::dev();
        dev.spec.subnet = Some("10.1.0.0/16".parse().unwrap());
        let cancel = CancellationToken::new();
        let request = ActionRequest {
            cluster: &dev,
            term: Term(17),
            trust: unconditional_trust(),
            cancel: &cancel,
        };
        let call = action(&settings(), Action::Create, &request).unwrap();
        let set: Vec<&str> = call
            .line
            .env
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let documented: Vec<&str> = CONTEXT_ENV.iter().map(|(name, _)| *name).collect();
        assert_eq!(set, documented);
    }
}
