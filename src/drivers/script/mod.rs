//! The driver that runs the host's own commands, such as `create_env.sh` and `delete_env.sh`.
//!
//! It runs one command per action under a guard. To observe, it runs a probe, and if that fails it
//! checks whether the cluster exists. It must not retry or use a shell, and it does not observe
//! the cluster after an action (the reconciler does).
//!
//! ```text
//! observe ──> probe ── exit 0 ──────────────────> healthy
//!               ├───── cannot be started ───────> unknown
//!               └───── anything else ──> exists? ── yes ──────> unhealthy, with the probe's message;
//!                                          │                    unknown, if the probe could not work
//!                                          ├─────── stopped ──> stopped
//!                                          ├─────── no ───────> absent
//!                                          └─────── unknown ──> unknown
//! ```
//!
//! A row that owns no cluster yet is observed by the existence check alone: what exists is of
//! another, unless a log of this host shows that an action of the row ran.

mod brief;
mod calls;
mod listing;
mod nodes;
mod programs;
mod step;
mod unusable;

use std::ffi::OsStr;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::clusters::Cluster;
use crate::clusters::observation::Observation;
use crate::clusters::plan::Action;
use crate::command::{
    CommandLimits, Ending, FinishedCommand, LogDir, LogOwner, Runner, SpawnError, state_files,
    unconditional_trust,
};
use crate::core::steps::StepSet;

use super::{
    ActionRequest, Deadlines, Driver, Kubeconfig, KubeconfigError, StepError, failure,
    foreign_text, kubeconfig,
};
use calls::{Call, ExistenceQuery};
use listing::Existence;
use step::CommandStep;

pub use calls::CONTEXT_ENV;

/// The limit of a list of clusters, in bytes. k3d writes about 5 KB per cluster.
const LIST_BYTES: usize = 4 * 1024 * 1024;

/// The commands of the script driver, and how they run.
#[derive(Clone, Debug)]
pub struct ScriptSettings {
    /// Creates a cluster and applies its spec: `CREATE -n NAME -p PROVIDER --node-port N …`.
    pub create: Option<PathBuf>,
    /// Deletes a cluster: `DELETE -n NAME -p PROVIDER`.
    pub delete: Option<PathBuf>,
    /// `PROBE NAME PROVIDER`: exit code 0 is healthy. Default: `kubectl … get nodes`.
    pub probe: Option<PathBuf>,
    /// `EXISTS NAME PROVIDER`: 0 exists, 1 absent. Default: the provider's own list.
    pub exists: Option<PathBuf>,
    /// `START NAME PROVIDER`. Default: the provider's own command.
    pub start: Option<PathBuf>,
    /// `STOP NAME PROVIDER`. Default: the provider's own command.
    pub stop: Option<PathBuf>,
    /// The deadlines of actions and observations.
    pub deadlines: Deadlines,
    /// The logs of actions.
    pub logs: LogDir,
    /// Runs the commands; its `pass_env` adds environment variables that they inherit.
    pub runner: Runner,
}

impl ScriptSettings {
    /// Without commands of the host; defaults for the rest.
    pub fn new(logs: LogDir) -> Self {
        Self {
            create: None,
            delete: None,
            probe: None,
            exists: None,
            start: None,
            stop: None,
            deadlines: Deadlines::default(),
            logs,
            runner: Runner::default(),
        }
    }
}

/// What is wrong with the programs of these settings for a process with this `PATH`, one line
/// each; and the default programs that it does not find, which one provider alone may not need.
pub fn programs_on(settings: &ScriptSettings, path: &OsStr) -> (Vec<String>, Vec<&'static str>) {
    let problems = programs::problems(settings, path);
    (problems, programs::missing_defaults(settings, path))
}

/// The driver that runs the host's own commands.
#[derive(Clone, Debug)]
pub struct ScriptDriver {
    settings: ScriptSettings,
    /// The runner for observations: it keeps a longer stdout.
    observer: Runner,
}

impl ScriptDriver {
    /// Checks nothing; [`Driver::preflight`] does.
    pub fn new(settings: ScriptSettings) -> Self {
        let observer = Runner {
            stdout_kept: LIST_BYTES,
            ..settings.runner.clone()
        };
        Self { settings, observer }
    }

    /// Runs one command to observe. It needs no lease, and its output is not logged: repeated every
    /// five minutes it would displace the output of actions.
    async fn query(&self, call: &Call) -> Result<FinishedCommand, SpawnError> {
        let limits = CommandLimits {
            deadline: self.settings.deadlines.probe,
            grace: self.settings.deadlines.grace,
        };
        let never_cancelled = CancellationToken::new();
        self.observer
            .run(
                &call.line,
                &limits,
                unconditional_trust(),
                &never_cancelled,
                None,
            )
            .await
    }

    /// Runs the command of an action and logs its output.
    async fn command(&self, action: Action, request: &ActionRequest<'_>) -> Result<(), StepError> {
        let call = calls::action(&self.settings, action, request)?;
        let limits = CommandLimits {
            deadline: self.settings.deadlines.of(action),
            grace: self.settings.deadlines.grace,
        };
        let (name, uid) = (request.cluster.name.as_str(), request.cluster.uid);
        let mut log = self.settings.logs.log(name, uid, request.heading(action));
        let ran = self
            .settings
            .runner
            .run(
                &call.line,
                &limits,
                request.trust.clone(),
                request.cancel,
                Some(&mut log),
            )
            .await;
        let deadline = self.settings.deadlines.setting(action);
        let remedy = |error: &_| call.remedy(error);
        failure::action_result(&call.line, remedy, ran, &log, &deadline)
    }

    async fn existence(&self, cluster: &Cluster) -> Existence {
        let query = ExistenceQuery::of(&self.settings, cluster);
        let call = query.call();
        let finished = match self.query(call).await {
            Ok(finished) => finished,
            Err(error) => return Existence::Unknown(brief::not_observed(call, &error)),
        };
        let name = &cluster.name;
        let existence = match &query {
            ExistenceQuery::Configured(call) => listing::of_exit_code(&call.line, &finished),
            ExistenceQuery::K3dList(call) => listing::of_k3d_list(&call.line, &finished, name),
            ExistenceQuery::KindList(call) => listing::of_kind_list(&call.line, &finished, name),
        };
        match (query, existence) {
            (ExistenceQuery::KindList(_), Existence::Exists) => self.kind_node(cluster).await,
            (_, existence) => existence,
        }
    }

    /// Observes before the first action of a row.
    async fn observe_unowned(&self, cluster: &Cluster) -> Observation {
        match self.existence(cluster).await {
            Existence::Absent => Observation::Absent,
            Existence::Unknown(why) => Observation::unknown(why),
            Existence::Exists | Existence::Stopped => match self.has_acted(cluster).await {
                Ok(true) => self.observe_own(cluster).await,
                Ok(false) => Observation::foreign(foreign_text(
                    cluster,
                    &calls::removal(&self.settings, cluster),
                )),
                Err(error) => Observation::unknown(format!(
                    "a cluster exists, and whether this row made it cannot be read: {error}"
                )),
            },
        }
    }

    /// Whether an action of this row ran on this host, although the row does not record it: the
    /// server forgot the commit.
    async fn has_acted(&self, cluster: &Cluster) -> std::io::Result<bool> {
        // A log without a UID, of an earlier release, is of no row.
        let owner = LogOwner::row(cluster.uid, Some(jiff::Timestamp::MAX));
        let log = self.settings.logs.of(cluster.name.as_str(), owner);
        state_files().run(move || log.exists()).await
    }

    async fn observe_own(&self, cluster: &Cluster) -> Observation {
        let probe = calls::probe(&self.settings, cluster);
        let finished = match self.query(&probe).await {
            Ok(finished) => finished,
            Err(error) => return Observation::unknown(brief::not_observed(&probe, &error)),
        };
        if finished.ending == Ending::Exited(0) {
            return match probe.configured {
                true => Observation::HEALTHY,
                false => nodes::observation(&probe.line, &finished),
            };
        }
        let why = brief::brief(&probe.line, &finished);
        match self.existence(cluster).await {
            Existence::Exists => match unusable::why(&finished) {
                Some(cause) => {
                    let line = &probe.line;
                    Observation::unknown(brief::could_not_work(line, &finished, cause))
                }
                None => Observation::unhealthy(why),
            },
            Existence::Stopped => Observation::STOPPED,
            Existence::Absent => Observation::Absent,
            Existence::Unknown(unknown) => Observation::unknown(format!("{why}; and {unknown}")),
        }
    }

    /// Checks whether the container of a kind cluster's node is stopped, because kind lists stopped
    /// clusters too. If this fails, the cluster still exists.
    async fn kind_node(&self, cluster: &Cluster) -> Existence {
        match self.query(&calls::kind_node_state(cluster)).await {
            Ok(finished) if finished.ending.is_clean() && finished.stdout == b"exited\n" => {
                Existence::Stopped
            }
            Ok(_) | Err(_) => Existence::Exists,
        }
    }
}

#[async_trait]
impl Driver for ScriptDriver {
    fn name(&self) -> &'static str {
        "script"
    }

    async fn preflight(&self) -> Result<(), Vec<String>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let problems = programs::problems(&self.settings, &path);
        for missing in programs::missing_defaults(&self.settings, &path) {
            tracing::info!(
                program = missing,
                "not found in PATH; clusters that need it cannot be observed"
            );
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    async fn observe(&self, cluster: &Cluster) -> Observation {
        if cluster.owns_a_cluster() || cluster.name.is_management() {
            self.observe_own(cluster).await
        } else {
            self.observe_unowned(cluster).await
        }
    }

    fn removal(&self, cluster: &Cluster) -> String {
        calls::removal(&self.settings, cluster)
    }

    fn absence(&self, cluster: &Cluster) -> Option<String> {
        Some(ExistenceQuery::of(&self.settings, cluster).absence())
    }

    async fn act(&self, action: Action, request: &ActionRequest<'_>) -> Result<(), StepError> {
        self.command(action, request).await
    }

    fn steps<'a>(&'a self, action: Action, request: &'a ActionRequest<'a>) -> Option<StepSet<'a>> {
        match action {
            Action::Create | Action::Update | Action::Delete => {
                let step = CommandStep {
                    driver: self,
                    action,
                    request,
                };
                Some(StepSet::of(self.name(), vec![Box::new(step)]))
            }
            Action::Start | Action::Stop => None,
        }
    }

    fn step_names(&self) -> &'static [&'static str] {
        &[step::NAME]
    }

    async fn kubeconfig(&self, cluster: &Cluster) -> Result<Kubeconfig, KubeconfigError> {
        kubeconfig::read(&self.settings.runner, cluster).await
    }
}
