//! One step of a driver, and how it fails.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::decide::{StepFacts, StepObservation};
use super::record::Requirement;

/// Why work on the world did not end well.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Trying again soon may help.
    #[error("{summary}")]
    Transient {
        /// One line: what was done, and how it ended.
        summary: String,
        /// The last lines, where the log is; may be empty.
        detail: String,
    },
    /// It was stopped at its deadline; trying again may help.
    #[error("{summary}")]
    Late {
        /// One line: what was done, and for how long.
        summary: String,
        /// The last lines, where the log is; may be empty.
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
    /// It was cut short: the order was withdrawn, or the right to act ended.
    /// Nothing is concluded from it.
    #[error("the work was cut short")]
    Interrupted,
}

impl StepError {
    /// A failure that trying again soon may mend.
    pub fn transient(summary: impl ToString) -> Self {
        Self::Transient {
            summary: summary.to_string(),
            detail: String::new(),
        }
    }

    /// The word for what is recorded of it.
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

/// One step, made for one row: it holds what it needs of the row and of the world.
///
/// # Guarantees that the caller gives
/// - `apply` and `remove` begin only after their start was committed under the
///   fence, and are dropped when the right to act ends or the deadline passes.
/// - Two steps of one row never run at once.
///
/// # What an implementation must keep
/// - `observe` changes nothing and is cheap. What it cannot see is
///   [`StepObservation::Unknown`], never "not in place".
/// - `apply` and `remove` are idempotent: create or patch, never blind replace.
///   They may run again after a crash at any point within them.
#[async_trait]
pub trait Step: Send + Sync {
    /// Its name: a word of letters, digits, `-`, `_` and `.`, the same in every
    /// release.
    fn name(&self) -> &'static str;

    /// Raised by a release that applies it in another way: it runs again then. A
    /// release that meets a newer version leaves the step alone.
    fn version(&self) -> i32 {
        1
    }

    /// What its failure means.
    fn requirement(&self) -> Requirement {
        Requirement::Required
    }

    /// Whether [`Step::observe`] can tell. If not, the observation of the whole is
    /// the only one: the step is applied whenever the whole is, and needs no
    /// removal once the whole is absent.
    fn is_observable(&self) -> bool {
        true
    }

    /// What it depends on: the part of the declaration and of its surroundings
    /// whose change makes it run again.
    fn input(&self) -> String {
        String::new()
    }

    /// How long one attempt may take; none: the step keeps its own deadline.
    fn deadline(&self) -> Option<Duration>;

    /// Looks whether it is in place as declared now.
    async fn observe(&self) -> StepObservation;

    /// Puts it in place.
    ///
    /// # Errors
    /// [`StepError`] tells by type whether a quick retry can help.
    async fn apply(&self) -> Result<(), StepError>;

    /// Takes away whatever may be there of it.
    ///
    /// # Errors
    /// [`StepError`] tells by type whether a quick retry can help.
    async fn remove(&self) -> Result<(), StepError>;
}

/// Sees how a run over steps ended, as a log does.
#[async_trait]
pub trait RunObserver: Send + Sync {
    /// The run ended well, or with this failure; none: it was cut short.
    async fn ended(&self, how: Option<Result<(), &StepError>>);
}

/// The steps of one driver for one row, in their order.
pub struct StepSet<'a> {
    /// Whose steps they are.
    pub driver: &'static str,
    /// First to last; removed last to first.
    pub steps: Vec<Box<dyn Step + 'a>>,
    /// Which of them a run goes over, as a range of indices. A run backward over a
    /// part, as for a stop, may hold only steps of which it leaves nothing: a delete
    /// does not remove a second time what is recorded as removed. The model found it.
    pub range: Range<usize>,
    /// Who sees how a run over them ended.
    pub observer: Option<Arc<dyn RunObserver + 'a>>,
}

impl<'a> StepSet<'a> {
    /// A set whose runs go over all of these steps.
    pub fn of(driver: &'static str, steps: Vec<Box<dyn Step + 'a>>) -> Self {
        Self {
            driver,
            range: 0..steps.len(),
            steps,
            observer: None,
        }
    }

    /// What decisions need to know of each step.
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

/// A short name for an input: it is compared, never read.
fn hash(input: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(input.as_bytes());
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
