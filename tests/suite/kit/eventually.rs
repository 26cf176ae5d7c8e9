//! Waiting for a condition instead of sleeping and hoping.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// The pause between two looks grows from the first to the second of these.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// An answer that may be "not yet": a bool, or an option with the awaited value.
pub trait Answer {
    /// What is known once the condition holds.
    type Value;

    /// The value, if the condition holds.
    fn held(self) -> Option<Self::Value>;
}

impl Answer for bool {
    type Value = ();

    fn held(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Answer for Option<T> {
    type Value = T;

    fn held(self) -> Option<T> {
        self
    }
}

/// Looks again and again until the condition holds, and returns its value. Panics, naming what
/// was awaited, when the deadline passes first; a look that hangs is cut off by it, too.
#[track_caller]
pub fn eventually<A: Answer, F: Future<Output = A>>(
    deadline: Duration,
    awaited: &str,
    mut look: impl FnMut() -> F,
) -> impl Future<Output = A::Value> {
    // An async fn would lose the caller's place.
    let caller = std::panic::Location::caller();
    async move {
        let giving_up = Instant::now() + deadline;
        let mut pause = FIRST_PAUSE;
        let mut looks = 0;
        loop {
            looks += 1;
            let left = giving_up.saturating_duration_since(Instant::now());
            if let Ok(answer) = timeout(left, look()).await
                && let Some(value) = answer.held()
            {
                return value;
            }
            assert!(
                Instant::now() < giving_up,
                "{caller}: waited {deadline:?} ({looks} looks) in vain for: {awaited}"
            );
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
