//! The trait of a step, its errors, and the set of a driver's steps.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::decide::{StepFacts, StepObservation};
use super::record::Requirement;

/// Why a step or action failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A retry soon may succeed.
    #[error("{summary}")]
    Transient {
        /// One line: what was done, and how it ended.
        summary: String,
        /// The last lines of output and the path of the log; may be empty.
        detail: String,
    },
    /// It was stopped at its deadline; a retry may succeed.
    #[error("{summary}")]
    Late {
        /// One line: what was done, and for how long.
        summary: String,
        /// The last lines of output and the path of the log; may be empty.
        detail: String,
    },
    /// It fails until a person changes something.
    #[error("{summary}")]
    Permanent {
        /// One line: what was done, and why it cannot work.
        summary: String,
        /// What to do about it; may be empty.
        detail: String,
    },
    /// It was cancelled, or the lease is not trusted any more. The result is unknown.
    #[error("the work was interrupted")]
    Interrupted,
}

impl StepError {
    /// A failure that a retry soon may fix.
    pub fn transient(summary: impl ToString) -> Self {
        Self::Transient {
            summary: summary.to_string(),
            detail: String::new(),
        }
    }

    /// The reason word that is recorded.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Transient { .. } => "Failed",
            Self::Late { .. } => "DeadlineExceeded",
            Self::Permanent { .. } => "Impossible",
            Self::Interrupted => "Interrupted",
        }
    }

    /// Puts the step's name before the summary.
    #[must_use]
    pub fn in_step(self, step: &str) -> Self {
        let named = |summary: String| format!("step {step}: {summary}");
        match self {
            Self::Transient { summary, detail } => Self::Transient {
                summary: named(summary),
                detail,
            },
            Self::Late { summary, detail } => Self::Late {
                summary: named(summary),
                detail,
            },
            Self::Permanent { summary, detail } => Self::Permanent {
                summary: named(summary),
                detail,
            },
            Self::Interrupted => Self::Interrupted,
        }
    }
}

/// One step, created for one row.
///
/// # Guarantees of the caller
/// - `apply` and `remove` start only after their start is committed under the fence. They
///   are dropped when the right to act ends or the deadline passes.
/// - Two steps of one row never run at once.
///
/// # Requirements for an implementation
/// - `observe` changes nothing and is cheap. What it cannot observe is
///   [`StepObservation::Unknown`], never "not in place".
/// - `apply` and `remove` are idempotent: they create or patch, and never replace
///   blindly. They may run again after a crash at any point.
#[async_trait]
pub trait Step: Send + Sync {
    /// Its name: letters, digits, `-`, `_` and `.`; the same in every release.
    fn name(&self) -> &'static str;

    /// A release that applies it in another way raises this, so that it runs again. A
    /// release does not touch a step that is recorded with a newer version.
    fn version(&self) -> i32 {
        1
    }

    /// What its failure means.
    fn requirement(&self) -> Requirement {
        Requirement::Required
    }

    /// Whether the step can be observed by itself. If not, only the object as a whole can
    /// be observed: the step is applied whenever the object is, and needs no removal once
    /// the object is absent.
    fn is_observable(&self) -> bool {
        true
    }

    /// Its input: the parts of the declaration and of the environment whose change makes
    /// it run again.
    fn input(&self) -> String {
        String::new()
    }

    /// How long one attempt may take; none if the step has its own deadline.
    fn deadline(&self) -> Option<Duration>;

    /// The setting of that deadline, with its value, for the text of the failure. None if it is a
    /// constant of the step.
    fn deadline_setting(&self) -> Option<String> {
        None
    }

    /// Checks whether it is in place as declared.
    async fn observe(&self) -> StepObservation;

    /// Puts it in place.
    ///
    /// # Errors
    /// [`StepError`]; its variant says whether a quick retry may succeed.
    async fn apply(&self) -> Result<(), StepError>;

    /// Removes whatever exists of it.
    ///
    /// # Errors
    /// [`StepError`]; its variant says whether a quick retry may succeed.
    async fn remove(&self) -> Result<(), StepError>;
}

/// Is notified of the end of a run, for example to write a log.
#[async_trait]
pub trait RunObserver: Send + Sync {
    /// The run succeeded, failed with this error, or was cancelled (none).
    async fn ended(&self, how: Option<Result<(), &StepError>>);
}

/// The steps of one driver for one row, in their order.
pub struct StepSet<'a> {
    /// The name of the driver.
    pub driver: &'static str,
    /// The steps: applied first to last, removed last to first.
    pub steps: Vec<Box<dyn Step + 'a>>,
    /// The indices of the steps that a run covers. A run backward over a part, as for a
    /// stop, may cover only steps that it removes completely, because a delete skips
    /// steps that are recorded as removed (found by the model in `tests/model`).
    pub range: Range<usize>,
    /// Is notified of the end of a run.
    pub observer: Option<Arc<dyn RunObserver + 'a>>,
}

impl<'a> StepSet<'a> {
    /// A set whose runs cover all of these steps.
    pub fn of(driver: &'static str, steps: Vec<Box<dyn Step + 'a>>) -> Self {
        Self {
            driver,
            range: 0..steps.len(),
            steps,
            observer: None,
        }
    }

    /// The facts of each step, for decisions.
    pub fn facts(&self) -> Vec<StepFacts> {
        self.steps.iter().map(|step| facts(&**step)).collect()
    }
}

fn facts(step: &dyn Step) -> StepFacts {
    StepFacts {
        name: step.name(),
        version: step.version(),
        requirement: step.requirement(),
        observable: step.is_observable(),
        input_hash: hash(&step.input()),
    }
}

/// A short hash of an input, for comparison only.
fn hash(input: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(input.as_bytes());
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
