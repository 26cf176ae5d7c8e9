//! The steps of a sandbox cluster, in their order: folder, port, process and ready
//! are required, about is best-effort. What each does is [`super::work`]'s; here is
//! what they share: the log, the delays and failures that are ordered, the deadline.

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

use super::error::SandboxError;
use super::progress::Progress;
use super::work::Work;
use super::{Order, SandboxDriver, direction};

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

/// Those that a stop takes away, as indices: it keeps folder, port and about.
const STOPPED: Range<usize> = 2..4;

/// How long one attempt at a step that only touches files may take.
const FILES_WITHIN: Duration = Duration::from_secs(30);
/// The same for a step that starts or ends a process, or waits for it to answer.
const PROCESS_WITHIN: Duration = Duration::from_secs(90);

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
    let set = StepSet::of("sandbox", PARTS.into_iter().enumerate().map(step).collect());
    let range = match action {
        Action::Stop => STOPPED,
        Action::Create | Action::Update | Action::Start | Action::Delete => set.range.clone(),
    };
    StepSet {
        range,
        observer: Some(session),
        ..set
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

    /// The session keeps that of the whole action besides.
    fn deadline(&self) -> Option<Duration> {
        let within = match self.part {
            SandboxPart::Folder | SandboxPart::Port | SandboxPart::About => FILES_WITHIN,
            SandboxPart::Process | SandboxPart::Ready => PROCESS_WITHIN,
        };
        Some(within + self.pause())
    }

    async fn observe(&self) -> StepObservation {
        let work = self.session.work();
        let seen = match self.part {
            SandboxPart::Folder => work.see_folder(),
            SandboxPart::Port => work.see_port(),
            SandboxPart::Process if self.session.action == Action::Stop => work.see_stopped(),
            SandboxPart::Process => work.see_process().await,
            SandboxPart::Ready => work.see_ready().await,
            SandboxPart::About => work.see_about(),
        };
        seen.unwrap_or_else(|error| StepObservation::Unknown(crate::cause::chain(&error)))
    }

    async fn apply(&self) -> Result<(), StepError> {
        self.act(async |work| match self.part {
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
        self.act(async |work| match self.part {
            SandboxPart::Folder => work.vacate().await,
            SandboxPart::Port => work.give_port_back(),
            SandboxPart::Process if self.session.action == Action::Stop => work.stop().await,
            SandboxPart::Process => work.end_process().await,
            SandboxPart::Ready => Ok(()),
            SandboxPart::About => work.remove_about(),
        })
        .await
    }
}

impl SandboxStep<'_> {
    /// How much longer it takes than it needs, as ordered.
    fn pause(&self) -> Duration {
        let settings = &self.session.driver.settings;
        match (self.part, direction(self.session.action)) {
            (SandboxPart::Process, Direction::Backward) => settings.delete_delay,
            // In thirds: these three act in every create.
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

    /// Acts, unless a failure is ordered, within what is left of the action's
    /// deadline and while the order stands.
    async fn act(
        &self,
        work: impl AsyncFnOnce(&Work<'_>) -> Result<(), SandboxError>,
    ) -> Result<(), StepError> {
        let session = &self.session;
        let first = !session.acted.swap(true, Ordering::Relaxed);
        session.open().await;
        let line = format!("step {}/{} {}", self.number, PARTS.len(), self.part.name());
        session.say(&line).await;
        let (action, deadline) = (session.action, session.deadline());
        let effect = async {
            session
                .misbehave_as_ordered(self.part.name(), first)
                .await?;
            sleep(self.pause()).await;
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
        let detail = progress.as_ref().map(Progress::detail);
        let (summary, detail) = (crate::cause::chain(error), detail.unwrap_or_default());
        match error {
            SandboxError::Late { .. } => StepError::Late { summary, detail },
            _ => StepError::Transient { summary, detail },
        }
    }

    async fn misbehave_as_ordered(&self, step: &str, first: bool) -> Result<(), SandboxError> {
        let (settings, cluster) = (&self.driver.settings, self.order.cluster);
        let forward = direction(self.action) != Direction::Backward;
        let struck = |fault: &super::OrderedFault| fault.strikes(&cluster.name, step, first);
        if settings.always_hangs.iter().any(struck) {
            std::future::pending::<()>().await;
        }
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
