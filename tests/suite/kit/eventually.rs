//! Waits for conditions without fixed sleeps.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// The pause between two attempts grows from the first to the second of these.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A result that may be "not yet": a bool, or an option with the awaited value.
pub trait PollResult {
    /// The value of a condition that holds.
    type Value;

    /// The value, if the condition holds.
    fn ready(self) -> Option<Self::Value>;
}

impl PollResult for bool {
    type Value = ();

    fn ready(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> PollResult for Option<T> {
    type Value = T;

    fn ready(self) -> Option<T> {
        self
    }
}

/// How many times longer than usual to wait: `make test-docker` makes real clusters.
pub fn patience() -> u32 {
    static PATIENCE: LazyLock<u32> = LazyLock::new(|| {
        let given = std::env::var("KINDLER_TEST_PATIENCE").ok();
        given.and_then(|times| times.parse().ok()).unwrap_or(1)
    });
    *PATIENCE
}

/// Tries again until the condition holds, and returns its value. Panics with the
/// awaited condition if the deadline passes first; the deadline also ends an attempt
/// that hangs.
#[track_caller]
pub fn eventually<A: PollResult, F: Future<Output = A>>(
    deadline: Duration,
    awaited: &str,
    mut attempt: impl FnMut() -> F,
) -> impl Future<Output = A::Value> {
    // An async fn would lose the caller's location.
    let caller = std::panic::Location::caller();
    let deadline = deadline * patience();
    async move {
        let giving_up = Instant::now() + deadline;
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let left = giving_up.saturating_duration_since(Instant::now());
            if let Ok(result) = timeout(left, attempt()).await
                && let Some(value) = result.ready()
            {
                return value;
            }
            assert!(
                Instant::now() < giving_up,
                "{caller}: timed out after {deadline:?} ({attempts} attempts): {awaited}"
            );
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
