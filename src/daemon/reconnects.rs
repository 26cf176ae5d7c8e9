//! Counts the reconnects of the listener.

use prometheus::IntCounter;
use tokio::sync::watch;

use crate::core::listener::Listening;

/// Counts until the listener ends. The first connection is not a reconnect. The
/// listener pauses before each attempt, so no change is missed.
pub(super) async fn count(mut listening: watch::Receiver<Listening>, reconnects: IntCounter) {
    let mut had = false;
    let mut has = *listening.borrow_and_update() == Listening::Yes;
    loop {
        if has && had {
            reconnects.inc();
        }
        had |= has;
        let was = has;
        while has == was {
            if listening.changed().await.is_err() {
                return;
            }
            has = *listening.borrow_and_update() == Listening::Yes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_connection_is_not_a_reconnect() {
        let (state, listening) = watch::channel(Listening::No("not yet".into()));
        let reconnects = IntCounter::new("reconnects", "for this test").unwrap();
        let counting = tokio::spawn(count(listening, reconnects.clone()));
        let mut counts = vec![reconnects.get()];
        for now in [
            Listening::Yes,
            Listening::No("lost".into()),
            Listening::Unsupported("lost".into()),
            Listening::Yes,
            Listening::No("lost again".into()),
            Listening::Yes,
        ] {
            state.send_replace(now);
            // The one other task of this thread runs until it waits again.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            counts.push(reconnects.get());
        }
        assert_eq!(counts, [0, 0, 0, 0, 1, 1, 2]);
        drop(state);
        counting.await.unwrap();
    }
}
