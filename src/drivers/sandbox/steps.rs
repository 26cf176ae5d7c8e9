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

/// Which step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SandboxPart {
    Folder,
    Port,
    Process,
    Ready,
    About,
}

/// All of them, in their order.
const PARTS: [SandboxPart; 5] = [
    SandboxPart::Folder,
    SandboxPart::Port,
    SandboxPart::Process,
    SandboxPart::Ready,
    SandboxPart::About,
];

/// Their names, in their order.
pub(super) const NAMES: [&str; 5] = {
    let [a, b, c, d, e] = PARTS;
    [a.name(), b.name(), c.name(), d.name(), e.name()]
};

impl SandboxPart {
    const fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Port => "port",
            Self::Process => "process",
            Self::Ready => "ready",
            Self::About => "about",
        }
    }
}

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
    let step = |(index, part)| -> Box<dyn Step + 'a> {
        Box::new(SandboxStep {
            session: session.clone(),
            part,
            number: index + 1,
        })
    };
    StepSet {
        driver: "sandbox",
        steps: PARTS.into_iter().enumerate().map(step).collect(),
        observer: Some(session),
    }
}

/// One of them.
struct SandboxStep<'a> {
    session: Arc<Session<'a>>,
    part: SandboxPart,
    number: usize,
}

#[async_trait]
impl Step for SandboxStep<'_> {
    fn name(&self) -> &'static str {
        self.part.name()
    }

    fn requirement(&self) -> Requirement {
        match self.part {
            SandboxPart::About => Requirement::BestEffort,
            SandboxPart::Folder | SandboxPart::Port | SandboxPart::Process | SandboxPart::Ready => {
                Requirement::Required
            }
        }
    }

    fn input(&self) -> String {
        let cluster = self.session.order.cluster;
        match self.part {
            SandboxPart::Folder => String::new(),
            SandboxPart::Port | SandboxPart::Ready | SandboxPart::About => {
                cluster.spec.http_port.to_string()
            }
            SandboxPart::Process => format!("{} {}", cluster.spec.http_port, cluster.generation),
        }
    }

    /// The session keeps that of the whole action.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    async fn observe(&self) -> StepObservation {
        let work = self.session.work();
        let seen = match self.part {
            SandboxPart::Folder => work.see_folder(),
            SandboxPart::Port => work.see_port(),
            SandboxPart::Process => work.see_process().await,
            SandboxPart::Ready => work.see_ready().await,
            SandboxPart::About => work.see_about(),
        };
        seen.unwrap_or_else(|error| StepObservation::Unknown(crate::cause::chain(&error)))
    }

    async fn apply(&self) -> Result<(), StepError> {
        // In thirds: these three act in every create.
        let pause = match self.part {
            SandboxPart::Folder | SandboxPart::Port | SandboxPart::Process => {
                self.session.driver.settings.create_delay / 3
            }
            SandboxPart::Ready | SandboxPart::About => Duration::ZERO,
        };
        self.act(pause, async |work| match self.part {
            SandboxPart::Folder if self.session.action == Action::Start => work.expect_folder(),
            SandboxPart::Folder => work.make_folder().await,
            SandboxPart::Port => work.claim_port().await,
            SandboxPart::Process => work.run_process().await,
            SandboxPart::Ready => work.wait_until_ready().await,
            SandboxPart::About => work.write_about(),
        })
        .await
    }

    async fn remove(&self) -> Result<(), StepError> {
        let pause = match self.part {
            SandboxPart::Process => self.session.driver.settings.delete_delay,
            SandboxPart::Folder | SandboxPart::Port | SandboxPart::Ready | SandboxPart::About => {
                Duration::ZERO
            }
        };
        self.act(pause, async |work| match self.part {
            SandboxPart::Folder => work.vacate().await,
            SandboxPart::Port => work.give_port_back(),
            SandboxPart::Process => work.end_process().await,
            SandboxPart::Ready => Ok(()),
            SandboxPart::About => work.remove_about(),
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
        let line = format!("step {}/{} {}", self.number, PARTS.len(), self.part.name());
        session.say(&line).await;
        let (action, deadline) = (session.action, session.deadline());
        let effect = async {
            session.fail_as_ordered(self.part.name(), first)?;
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
