//! Counts how often the listener came back after a loss.

use prometheus::IntCounter;
use tokio::sync::watch;

use crate::core::listener::Listening;

/// Counts until the listener ends. The first connection is no return; between
/// two changes lies the listener's pause, so none is missed.
pub(super) async fn count(mut listening: watch::Receiver<Listening>, returns: IntCounter) {
    let mut had = false;
    let mut has = *listening.borrow_and_update() == Listening::Yes;
    loop {
        if has && had {
            returns.inc();
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
    async fn the_first_connection_is_no_return() {
        let (state, listening) = watch::channel(Listening::No("not yet".into()));
        let returns = IntCounter::new("returns", "for this test").unwrap();
        let counting = tokio::spawn(count(listening, returns.clone()));
        let mut told = vec![returns.get()];
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
            told.push(returns.get());
        }
        assert_eq!(told, [0, 0, 0, 0, 1, 1, 2]);
        drop(state);
        counting.await.unwrap();
    }
}
