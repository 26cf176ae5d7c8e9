//! The steps of a sandbox cluster, in their order: folder, port, process and ready
//! are required, about is best-effort. What each does is [`super::work`]'s; here is
//! what they share: the log, the delays and failures that are ordered, the deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::clusters::plan::Action;
use crate::core::steps::{Requirement, RunObserver, Step, StepError, StepObservation, StepSet};

use super::error::SandboxError;
use super::progress::Progress;
use super::work::Work;
use super::{Order, SandboxDriver};

/// Their names, in their order.
pub(super) const NAMES: [&str; 5] = ["folder", "port", "process", "ready", "about"];

/// What one run over the steps shares.
struct Session<'a> {
    driver: &'a SandboxDriver,
    action: Action,
    order: &'a Order<'a>,
    began: Instant,
    /// Whether a step has acted.
    acted: AtomicBool,
    progress: Mutex<Option<Progress>>,
}

/// The steps of one cluster.
pub(super) fn steps<'a>(
    driver: &'a SandboxDriver,
    action: Action,
    order: &'a Order<'a>,
) -> StepSet<'a> {
    let session = Arc::new(Session {
        driver,
        action,
        order,
        began: Instant::now(),
        acted: AtomicBool::new(false),
        progress: Mutex::new(None),
    });
    let step = |(index, name)| -> Box<dyn Step + 'a> {
        Box::new(SandboxStep {
            session: session.clone(),
            name,
            number: index + 1,
        })
    };
    StepSet {
        driver: "sandbox",
        steps: NAMES.into_iter().enumerate().map(step).collect(),
        observer: Some(session),
    }
}

/// One of them.
struct SandboxStep<'a> {
    session: Arc<Session<'a>>,
    name: &'static str,
    number: usize,
}

#[async_trait]
impl Step for SandboxStep<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn requirement(&self) -> Requirement {
        match self.name {
            "about" => Requirement::BestEffort,
            _ => Requirement::Required,
        }
    }

    fn input(&self) -> String {
        let cluster = self.session.order.cluster;
        match self.name {
            "port" | "ready" | "about" => cluster.spec.http_port.to_string(),
            "process" => format!("{} {}", cluster.spec.http_port, cluster.generation),
            _ => String::new(),
        }
    }

    /// The session keeps that of the whole action.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    async fn observe(&self) -> StepObservation {
        let work = self.session.work();
        let seen = match self.name {
            "folder" => work.see_folder(),
            "port" => work.see_port(),
            "process" => work.see_process().await,
            "ready" => work.see_ready().await,
            _ => work.see_about(),
        };
        seen.unwrap_or_else(|error| StepObservation::Unknown(crate::cause::chain(&error)))
    }

    async fn apply(&self) -> Result<(), StepError> {
        // In thirds: these three act in every create.
        let pause = match self.name {
            "folder" | "port" | "process" => self.session.driver.settings.create_delay / 3,
            _ => Duration::ZERO,
        };
        self.act(pause, async |work| match self.name {
            "folder" if self.session.action == Action::Start => work.expect_folder(),
            "folder" => work.make_folder().await,
            "port" => work.claim_port().await,
            "process" => work.run_process().await,
            "ready" => work.wait_until_ready().await,
            _ => work.write_about(),
        })
        .await
    }

    async fn remove(&self) -> Result<(), StepError> {
        let pause = match self.name {
            "process" => self.session.driver.settings.delete_delay,
            _ => Duration::ZERO,
        };
        self.act(pause, async |work| match self.name {
            "folder" => work.vacate().await,
            "port" => work.give_port_back(),
            "process" => work.end_process().await,
            "ready" => Ok(()),
            _ => work.remove_about(),
        })
        .await
    }
}

impl SandboxStep<'_> {
    /// Acts, unless a failure is ordered, within what is left of the action's
    /// deadline and while the order stands.
    async fn act(
        &self,
        pause: Duration,
        work: impl AsyncFnOnce(&Work<'_>) -> Result<(), SandboxError>,
    ) -> Result<(), StepError> {
        let session = &self.session;
        let first = !session.acted.swap(true, Ordering::Relaxed);
        session.open().await;
        let line = format!("step {}/{} {}", self.number, NAMES.len(), self.name);
        session.say(&line).await;
        let (action, deadline) = (session.action, session.deadline());
        let effect = async {
            session.fail_as_ordered(self.name, first)?;
            sleep(pause).await;
            work(&session.work()).await
        };
        let left = deadline.saturating_sub(session.began.elapsed());
        // In this order, so that nothing more is begun once the right has ended.
        let ended = tokio::select! {
            biased;
            () = session.order.withdrawn() => return Err(StepError::Interrupted),
            ended = timeout(left, effect) => ended,
        };
        let ended = ended.unwrap_or(Err(SandboxError::Late { action, deadline }));
        match ended {
            Ok(()) => Ok(()),
            Err(error) => Err(session.failure(&error).await),
        }
    }
}

impl Session<'_> {
    fn work(&self) -> Work<'_> {
        Work {
            settings: &self.driver.settings,
            cluster: self.order.cluster,
            folder: self.driver.folder(&self.order.cluster.name),
        }
    }

    fn deadline(&self) -> Duration {
        self.driver.settings.deadlines.of(self.action)
    }

    /// Writes the heading of the action into the log, once.
    async fn open(&self) {
        let mut progress = self.progress.lock().await;
        if progress.is_none() {
            let logs = &self.driver.settings.logs;
            *progress = Some(Progress::begin(logs, self.action, self.order).await);
        }
    }

    async fn say(&self, line: &str) {
        if let Some(progress) = &mut *self.progress.lock().await {
            progress.say(line).await;
        }
    }

    async fn failure(&self, error: &SandboxError) -> StepError {
        self.say(&format!("failed: {}", crate::cause::chain(error)))
            .await;
        let progress = self.progress.lock().await;
        let detail = progress.as_ref().map(|progress| progress.detail(error));
        let (summary, detail) = (error.to_string(), detail.unwrap_or_default());
        match error {
            SandboxError::Late { .. } => StepError::Late { summary, detail },
            _ => StepError::Transient { summary, detail },
        }
    }

    fn fail_as_ordered(&self, step: &str, first: bool) -> Result<(), SandboxError> {
        let (settings, cluster) = (&self.driver.settings, self.order.cluster);
        let forward = self.action != Action::Delete;
        let struck = |fault: &super::OrderedFault| fault.strikes(&cluster.name, step, first);
        if forward && settings.always_fails.iter().any(struck) {
            return Err(SandboxError::OnPurpose(
                "its name is in KINDLER_SANDBOX_FAIL",
            ));
        }
        if first && fastrand::f64() < settings.failure_rate {
            return Err(SandboxError::OnPurpose(
                "KINDLER_SANDBOX_FAILURE_RATE asks for it",
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl RunObserver for Session<'_> {
    async fn ended(&self, how: Option<Result<(), &StepError>>) {
        if let Some(progress) = &mut *self.progress.lock().await {
            progress.end(how).await;
        }
    }
}
