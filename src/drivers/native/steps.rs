//! The steps of a real cluster, in order: network, cluster, limits, kubeconfig, images, ready,
//! ingress, server_ip, context. [`super::work`] and the modules named like them have their effects.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::time::timeout;

use crate::clusters::plan::Action;
use crate::core::steps::{Requirement, Step, StepError, StepObservation, StepSet};

use super::error::NativeError;
use super::work::NativeWork;
use super::{ActionRequest, NativeDriver, network};

/// One of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NativePart {
    Network,
    Cluster,
    Limits,
    Kubeconfig,
    Images,
    Ready,
    Ingress,
    ServerIp,
    Context,
}

/// All steps, in order.
const PARTS: [NativePart; 9] = [
    NativePart::Network,
    NativePart::Cluster,
    NativePart::Limits,
    NativePart::Kubeconfig,
    NativePart::Images,
    NativePart::Ready,
    NativePart::Ingress,
    NativePart::ServerIp,
    NativePart::Context,
];

/// The names of the steps, in order.
pub(super) const NAMES: [&str; PARTS.len()] = {
    let mut names = [""; PARTS.len()];
    let mut at = 0;
    while at < PARTS.len() {
        names[at] = PARTS[at].name();
        at += 1;
    }
    names
};

/// The indices of the steps that a stop removes: it keeps the network and the containers.
const STOPPED: Range<usize> = NativePart::Ready as usize..NativePart::Ready as usize + 1;

impl NativePart {
    const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Cluster => "cluster",
            Self::Limits => "limits",
            Self::Kubeconfig => "kubeconfig",
            Self::Images => "images",
            Self::Ready => "ready",
            Self::Ingress => "ingress",
            Self::ServerIp => "server_ip",
            Self::Context => "context",
        }
    }

    /// A cluster works without these; their failure is a warning, and they are tried again.
    const fn is_best_effort(self) -> bool {
        matches!(
            self,
            Self::Images | Self::Ingress | Self::ServerIp | Self::Context
        )
    }
}

/// The shared state of one run over the steps.
struct NativeRun<'a> {
    driver: &'a NativeDriver,
    action: Action,
    request: &'a ActionRequest<'a>,
    started: Instant,
}

/// The steps of one cluster.
pub(super) fn steps<'a>(
    driver: &'a NativeDriver,
    action: Action,
    request: &'a ActionRequest<'a>,
) -> StepSet<'a> {
    let run = Arc::new(NativeRun {
        driver,
        action,
        request,
        started: Instant::now(),
    });
    let step = |part| -> Box<dyn Step + 'a> {
        let run = run.clone();
        Box::new(NativeStep { run, part })
    };
    let set = StepSet::of("native", PARTS.into_iter().map(step).collect());
    let range = match action {
        Action::Stop => STOPPED,
        Action::Create | Action::Update | Action::Start | Action::Delete => set.range.clone(),
    };
    StepSet { range, ..set }
}

/// One step of a run.
struct NativeStep<'a> {
    run: Arc<NativeRun<'a>>,
    part: NativePart,
}

#[async_trait]
impl Step for NativeStep<'_> {
    fn name(&self) -> &'static str {
        self.part.name()
    }

    fn requirement(&self) -> Requirement {
        match self.part.is_best_effort() {
            true => Requirement::BestEffort,
            false => Requirement::Required,
        }
    }

    fn input(&self) -> String {
        let settings = &self.run.driver.settings;
        let cluster = self.run.request.cluster;
        let spec = &cluster.spec;
        match self.part {
            NativePart::Network => format!("{} {:?}", network::name(cluster), spec.subnet),
            NativePart::Cluster => format!("{} {}", spec.http_port, spec.https_port),
            NativePart::Limits => format!("{:?}", self.run.driver.limits()),
            NativePart::Images => settings.preload.images.join(" "),
            NativePart::Ingress => format!("{} {}", settings.ingress, spec.node_port),
            NativePart::ServerIp => network::name(cluster),
            NativePart::Context => settings.merge_kubeconfig.to_string(),
            NativePart::Kubeconfig | NativePart::Ready => String::new(),
        }
    }

    /// The run enforces the deadline of the whole action.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    async fn observe(&self) -> StepObservation {
        let work = self.run.work();
        let observed = match self.part {
            NativePart::Network => work.observe_network().await,
            NativePart::Cluster => work.observe_cluster().await,
            NativePart::Limits => work.observe_limits().await,
            NativePart::Kubeconfig => work.observe_kubeconfig().await,
            NativePart::Images => work.observe_images().await,
            NativePart::Ingress => work.observe_ingress().await,
            NativePart::ServerIp => work.observe_server_ip().await,
            NativePart::Context => work.observe_context().await,
            NativePart::Ready if self.run.action == Action::Stop => work.observe_stopped().await,
            NativePart::Ready => work.observe_ready().await,
        };
        observed.unwrap_or_else(|error| StepObservation::Unknown(crate::cause::chain(&error)))
    }

    async fn apply(&self) -> Result<(), StepError> {
        self.act(async |work| match self.part {
            NativePart::Network => work.ensure_network().await,
            NativePart::Cluster => work.make_cluster().await,
            NativePart::Limits => work.limit().await,
            NativePart::Kubeconfig => work.write_kubeconfig().await,
            NativePart::Images => work.import_images().await,
            NativePart::Ready => work.wait_until_ready().await,
            NativePart::Ingress => work.apply_ingress().await,
            NativePart::ServerIp => work.wait_for_server_ip().await,
            NativePart::Context => work.merge_context().await,
        })
        .await
    }

    async fn remove(&self) -> Result<(), StepError> {
        self.act(async |work| match self.part {
            NativePart::Network => work.remove_network().await,
            NativePart::Cluster => work.remove_cluster().await,
            NativePart::Ready if self.run.action == Action::Stop => work.stop().await,
            NativePart::Context => work.remove_context().await,
            // They go with the containers and the folder.
            NativePart::Limits
            | NativePart::Kubeconfig
            | NativePart::Images
            | NativePart::Ready
            | NativePart::Ingress
            | NativePart::ServerIp => Ok(()),
        })
        .await
    }
}

impl NativeStep<'_> {
    /// Acts within the rest of the action's deadline, and until the request is cancelled.
    async fn act(
        &self,
        effect: impl AsyncFnOnce(&NativeWork<'_>) -> Result<(), NativeError>,
    ) -> Result<(), StepError> {
        let run = &self.run;
        let mut work = run.work();
        if self.part.is_best_effort() {
            // What the cluster needs comes after it.
            work.left /= 2;
        }
        let (left, grace) = (work.left, run.driver.settings.deadlines.grace);
        // Cancellation first, so that nothing starts after the right to act has ended. A tool has
        // the same deadline, and ends by itself.
        let ended = tokio::select! {
            biased;
            () = run.request.cancelled() => return Err(StepError::Interrupted),
            ended = timeout(left + grace * 2, effect(&work)) => ended,
        };
        match ended {
            Ok(ended) => ended.map_err(NativeError::into_step_error),
            Err(_) => Err(StepError::Late {
                summary: format!(
                    "it did not end in time ({})",
                    run.driver.settings.deadlines.setting(run.action)
                ),
                detail: String::new(),
            }),
        }
    }
}

impl NativeRun<'_> {
    fn work(&self) -> NativeWork<'_> {
        let deadline = self.driver.settings.deadlines.of(self.action);
        NativeWork {
            driver: self.driver,
            action: self.action,
            request: self.request,
            left: deadline.saturating_sub(self.started.elapsed()),
        }
    }
}
