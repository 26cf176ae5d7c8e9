//! The steps of a sandbox cluster, in order: folder, port, process and ready are required,
//! about is best-effort. [`super::work`] has their effects; this module has what they share:
//! log, injected delays and faults, deadline.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::clusters::plan::Action;
use crate::core::steps::{
    Direction, Requirement, RunObserver, Step, StepError, StepObservation, StepSet,
};

use super::action_log::ActionLog;
use super::error::SandboxError;
use super::work::SandboxWork;
use super::{ActionRequest, SandboxDriver, direction};

/// One of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SandboxPart {
    Folder,
    Port,
    Process,
    Ready,
    About,
}

/// All steps, in order.
const PARTS: [SandboxPart; 5] = [
    SandboxPart::Folder,
    SandboxPart::Port,
    SandboxPart::Process,
    SandboxPart::Ready,
    SandboxPart::About,
];

/// The names of the steps, in order.
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

/// The indices of the steps that a stop removes: it keeps folder, port and about.
const STOPPED: Range<usize> = 2..4;

/// How long one attempt at a step that only touches files may take.
const FILES_WITHIN: Duration = Duration::from_secs(30);
/// The same for a step that starts or ends a process, or waits for it to answer.
const PROCESS_WITHIN: Duration = Duration::from_secs(90);

/// The shared state of one run over the steps.
struct SandboxRun<'a> {
    driver: &'a SandboxDriver,
    action: Action,
    request: &'a ActionRequest<'a>,
    started: Instant,
    /// Whether a step has acted.
    acted: AtomicBool,
    log: Mutex<Option<ActionLog>>,
}

/// The steps of one cluster.
pub(super) fn steps<'a>(
    driver: &'a SandboxDriver,
    action: Action,
    request: &'a ActionRequest<'a>,
) -> StepSet<'a> {
    let run = Arc::new(SandboxRun {
        driver,
        action,
        request,
        started: Instant::now(),
        acted: AtomicBool::new(false),
        log: Mutex::new(None),
    });
    let step = |(index, part)| -> Box<dyn Step + 'a> {
        Box::new(SandboxStep {
            run: run.clone(),
            part,
            number: index + 1,
        })
    };
    let set = StepSet::of("sandbox", PARTS.into_iter().enumerate().map(step).collect());
    let range = match action {
        Action::Stop => STOPPED,
        Action::Create | Action::Update | Action::Start | Action::Delete => set.range.clone(),
    };
    StepSet {
        range,
        observer: Some(run),
        ..set
    }
}

/// One step of a run.
struct SandboxStep<'a> {
    run: Arc<SandboxRun<'a>>,
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
        let cluster = self.run.request.cluster;
        match self.part {
            SandboxPart::Folder => String::new(),
            SandboxPart::Port | SandboxPart::Ready | SandboxPart::About => {
                cluster.spec.http_port.to_string()
            }
            SandboxPart::Process => format!("{} {}", cluster.spec.http_port, cluster.generation),
        }
    }

    /// The run enforces the deadline of the whole action in addition.
    fn deadline(&self) -> Option<Duration> {
        let within = match self.part {
            SandboxPart::Folder | SandboxPart::Port | SandboxPart::About => FILES_WITHIN,
            SandboxPart::Process | SandboxPart::Ready => PROCESS_WITHIN,
        };
        Some(within + self.pause())
    }

    async fn observe(&self) -> StepObservation {
        let work = self.run.work();
        let observed = match self.part {
            SandboxPart::Folder => work.observe_folder(),
            SandboxPart::Port => work.observe_port(),
            SandboxPart::Process if self.run.action == Action::Stop => work.observe_stopped(),
            SandboxPart::Process => work.observe_process().await,
            SandboxPart::Ready => work.observe_ready().await,
            SandboxPart::About => work.observe_about(),
        };
        observed.unwrap_or_else(|error| StepObservation::Unknown(crate::cause::chain(&error)))
    }

    async fn apply(&self) -> Result<(), StepError> {
        self.act(async |work| match self.part {
            SandboxPart::Folder if self.run.action == Action::Start => work.require_folder(),
            SandboxPart::Folder => work.create_folder().await,
            SandboxPart::Port => work.claim_port().await,
            SandboxPart::Process => work.start_process().await,
            SandboxPart::Ready => work.wait_until_ready().await,
            SandboxPart::About => work.write_about(),
        })
        .await
    }

    async fn remove(&self) -> Result<(), StepError> {
        self.act(async |work| match self.part {
            SandboxPart::Folder => work.remove_folder().await,
            SandboxPart::Port => work.release_port(),
            SandboxPart::Process if self.run.action == Action::Stop => work.stop().await,
            SandboxPart::Process => work.end_process().await,
            SandboxPart::Ready => Ok(()),
            SandboxPart::About => work.remove_about(),
        })
        .await
    }
}

impl SandboxStep<'_> {
    /// The injected delay.
    fn pause(&self) -> Duration {
        let settings = &self.run.driver.settings;
        match (self.part, direction(self.run.action)) {
            (SandboxPart::Process, Direction::Backward) => settings.delete_delay,
            // A third each: these three act in every create.
            (
                SandboxPart::Folder | SandboxPart::Port | SandboxPart::Process,
                Direction::Forward(_),
            ) => settings.create_delay / 3,
            (
                SandboxPart::Folder | SandboxPart::Port | SandboxPart::Ready | SandboxPart::About,
                _,
            ) => Duration::ZERO,
        }
    }

    /// Acts, unless a fault is injected, within the rest of the action's deadline and until the
    /// request is cancelled.
    async fn act(
        &self,
        work: impl AsyncFnOnce(&SandboxWork<'_>) -> Result<(), SandboxError>,
    ) -> Result<(), StepError> {
        let run = &self.run;
        let first = !run.acted.swap(true, Ordering::Relaxed);
        run.open_log().await;
        let line = format!("step {}/{} {}", self.number, PARTS.len(), self.part.name());
        run.write_log(&line).await;
        let (action, deadline) = (run.action, run.deadline());
        let effect = async {
            run.inject_fault(self.part.name(), first).await?;
            sleep(self.pause()).await;
            work(&run.work()).await
        };
        let left = deadline.saturating_sub(run.started.elapsed());
        // Cancellation first, so that nothing starts after the right to act has ended.
        let ended = tokio::select! {
            biased;
            () = run.request.cancelled() => return Err(StepError::Interrupted),
            ended = timeout(left, effect) => ended,
        };
        let ended = ended.unwrap_or_else(|_| {
            let setting = run.driver.settings.deadlines.setting(action);
            Err(SandboxError::Late { action, setting })
        });
        match ended {
            Ok(()) => Ok(()),
            Err(error) => Err(run.step_error(&error).await),
        }
    }
}

impl SandboxRun<'_> {
    fn work(&self) -> SandboxWork<'_> {
        SandboxWork {
            settings: &self.driver.settings,
            cluster: self.request.cluster,
            folder: self.driver.folder(&self.request.cluster.name),
        }
    }

    fn deadline(&self) -> Duration {
        self.driver.settings.deadlines.of(self.action)
    }

    /// Writes the heading of the action to the log, once.
    async fn open_log(&self) {
        let mut log = self.log.lock().await;
        if log.is_none() {
            let logs = &self.driver.settings.logs;
            *log = Some(ActionLog::begin(logs, self.action, self.request).await);
        }
    }

    async fn write_log(&self, line: &str) {
        if let Some(log) = &mut *self.log.lock().await {
            log.write_line(line).await;
        }
    }

    async fn step_error(&self, error: &SandboxError) -> StepError {
        self.write_log(&format!("failed: {}", crate::cause::chain(error)))
            .await;
        let log = self.log.lock().await;
        let detail = log.as_ref().map(ActionLog::detail);
        let (summary, detail) = (crate::cause::chain(error), detail.unwrap_or_default());
        match error {
            SandboxError::Late { .. } => StepError::Late { summary, detail },
            _ => StepError::Transient { summary, detail },
        }
    }

    /// Fails or hangs if the settings say so.
    async fn inject_fault(&self, step: &str, first: bool) -> Result<(), SandboxError> {
        let (settings, cluster) = (&self.driver.settings, self.request.cluster);
        let forward = direction(self.action) != Direction::Backward;
        let applies = |fault: &super::InjectedFault| fault.applies_to(&cluster.name, step, first);
        if settings.always_hangs.iter().any(applies) {
            std::future::pending::<()>().await;
        }
        if forward && settings.always_fails.iter().any(applies) {
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
impl RunObserver for SandboxRun<'_> {
    async fn ended(&self, how: Option<Result<(), &StepError>>) {
        if let Some(log) = &mut *self.log.lock().await {
            log.end(how).await;
        }
    }
}
