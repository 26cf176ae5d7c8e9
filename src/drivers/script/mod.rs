//! Clusters made by the host's own commands, such as `create_env.sh` and `delete_env.sh`.
//!
//! This module runs one command per action under a guard, and looks by probing and then asking
//! whether the cluster exists. It must not judge an action by what was observed (the reconciler
//! does), retry, or hand anything to a shell.
//!
//! ```text
//! observe ──> probe ── exit 0 ──────────────────> healthy
//!               ├───── cannot be started ───────> unknown
//!               └───── anything else ──> exists? ── yes ──────> unhealthy, with the probe's words
//!                                          ├─────── stopped ──> stopped
//!                                          ├─────── no ───────> absent
//!                                          └─────── who knows > unknown
//! ```

mod calls;
mod failure;
mod kubeconfig;
mod listing;
mod programs;
mod step;

use std::path::PathBuf;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::clusters::Cluster;
use crate::clusters::observation::Observation;
use crate::clusters::plan::Action;
use crate::command::{
    CommandLimits, Ending, FinishedCommand, LogDir, Runner, SpawnError, unconditional_trust,
};
use crate::core::steps::StepSet;

use super::{Deadlines, Driver, Kubeconfig, KubeconfigError, Order, StepError};
use calls::{Call, Question};
use listing::Existence;
use step::CommandStep;

pub use calls::CONTEXT_ENV;

/// How much of a list of clusters is read, in bytes. k3d writes some 5 KB about each.
const LIST_KEPT: usize = 4 * 1024 * 1024;

/// Which commands hold the clusters of this host, and how they are run.
#[derive(Clone, Debug)]
pub struct ScriptSettings {
    /// Makes a cluster and applies its spec: `CREATE -n NAME -p PROVIDER --node-port N …`.
    pub create: Option<PathBuf>,
    /// Removes a cluster: `DELETE -n NAME -p PROVIDER`.
    pub delete: Option<PathBuf>,
    /// `PROBE NAME PROVIDER`: exit code 0 is healthy. Default: `kubectl … get nodes`.
    pub probe: Option<PathBuf>,
    /// `EXISTS NAME PROVIDER`: 0 exists, 1 absent. Default: the provider's own list.
    pub exists: Option<PathBuf>,
    /// `START NAME PROVIDER`. Default: the provider's own way.
    pub start: Option<PathBuf>,
    /// `STOP NAME PROVIDER`. Default: the provider's own way.
    pub stop: Option<PathBuf>,
    /// How long each kind of work may take.
    pub deadlines: Deadlines,
    /// Where the output of actions goes.
    pub logs: LogDir,
    /// Runs the commands; its `pass_env` names what they inherit beyond the fixed list.
    pub runner: Runner,
}

impl ScriptSettings {
    /// No command of the host's own yet; the defaults for the rest.
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

/// The driver that runs the host's own commands.
#[derive(Clone, Debug)]
pub struct ScriptDriver {
    settings: ScriptSettings,
    /// For questions: as the settings say, but it keeps a long list whole.
    looker: Runner,
}

impl ScriptDriver {
    /// Starts nothing and checks nothing; [`Driver::preflight`] does.
    pub fn new(settings: ScriptSettings) -> Self {
        let looker = Runner {
            stdout_kept: LIST_KEPT,
            ..settings.runner.clone()
        };
        Self { settings, looker }
    }

    /// Asks one question. It needs no lease, and what it prints is not logged: the same words
    /// every five minutes would push the interesting ones out.
    async fn look(&self, call: &Call) -> Result<FinishedCommand, SpawnError> {
        let limits = CommandLimits {
            deadline: self.settings.deadlines.probe,
            grace: self.settings.deadlines.grace,
        };
        let never_cancelled = CancellationToken::new();
        self.looker
            .run(
                &call.line,
                &limits,
                unconditional_trust(),
                &never_cancelled,
                None,
            )
            .await
    }

    /// Runs the command of an action, logs what it prints, and judges how it ended.
    async fn command(&self, action: Action, order: &Order<'_>) -> Result<(), StepError> {
        let call = calls::action(&self.settings, action, order)?;
        let limits = CommandLimits {
            deadline: self.settings.deadlines.of(action),
            grace: self.settings.deadlines.grace,
        };
        let (name, uid) = (order.cluster.name.as_str(), order.cluster.uid);
        let mut log = self.settings.logs.log(name, uid, order.heading(action));
        let ran = self
            .settings
            .runner
            .run(
                &call.line,
                &limits,
                order.trust.clone(),
                order.cancel,
                Some(&mut log),
            )
            .await;
        failure::judge(&call, ran, &log)
    }

    async fn existence(&self, cluster: &Cluster) -> Existence {
        let question = Question::of(&self.settings, cluster);
        let call = question.call();
        let finished = match self.look(call).await {
            Ok(finished) => finished,
            Err(error) => return Existence::Unknown(failure::unstartable(call, &error)),
        };
        let name = &cluster.name;
        let answer = match &question {
            Question::Configured(call) => listing::of_exit_code(&call.line, &finished),
            Question::K3dList(call) => listing::of_k3d_list(&call.line, &finished, name),
            Question::KindList(call) => listing::of_kind_list(&call.line, &finished, name),
        };
        match (question, answer) {
            (Question::KindList(_), Existence::Exists) => self.kind_node(cluster).await,
            (_, answer) => answer,
        }
    }

    /// kind lists what is stopped like what runs, so its node's container is asked. It only adds
    /// knowledge: whatever goes wrong here, the cluster is listed.
    async fn kind_node(&self, cluster: &Cluster) -> Existence {
        match self.look(&calls::kind_node_state(cluster)).await {
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
        let faults = programs::faults(&self.settings);
        for missing in programs::missing_defaults(&self.settings) {
            tracing::info!(
                program = missing,
                "not found in PATH; clusters that need it cannot be observed"
            );
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    async fn observe(&self, cluster: &Cluster) -> Observation {
        let probe = calls::probe(&self.settings, cluster);
        let finished = match self.look(&probe).await {
            Ok(finished) => finished,
            Err(error) => return Observation::unknown(failure::unstartable(&probe, &error)),
        };
        if finished.ending == Ending::Exited(0) {
            return Observation::HEALTHY;
        }
        let why = failure::brief(&probe.line, &finished);
        match self.existence(cluster).await {
            Existence::Exists => Observation::unhealthy(why),
            Existence::Stopped => Observation::STOPPED,
            Existence::Absent => Observation::Absent,
            Existence::Unknown(doubt) => Observation::unknown(format!("{why}; and {doubt}")),
        }
    }

    async fn act(&self, action: Action, order: &Order<'_>) -> Result<(), StepError> {
        self.command(action, order).await
    }

    fn steps<'a>(&'a self, action: Action, order: &'a Order<'a>) -> Option<StepSet<'a>> {
        match action {
            Action::Create | Action::Update | Action::Delete => {
                let step = CommandStep {
                    driver: self,
                    action,
                    order,
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
