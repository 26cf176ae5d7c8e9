//! Start to ready: from before the start of the process until `/readyz` answers 200, on
//! a migrated database.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::kit::{Daemon, Host, PrivateServer};
use crate::report::{Target, figure, ms, percentile};
use crate::rig::migrated;

const STARTS: usize = 10;
/// The pause between two requests: a small part of the measured time.
const POLL_PAUSE: Duration = Duration::from_millis(2);
const BROKEN_AFTER: Duration = Duration::from_secs(60);

/// Starts and stops the daemon several times.
pub async fn measure(server: &PrivateServer) {
    let database = migrated(server).await;
    let host = Host::new();
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let builder = Daemon::with_defaults(&database.url(), &host);
        let began = Instant::now();
        let daemon = builder.spawn();
        while daemon
            .get("/readyz")
            .await
            .is_none_or(|(status, _)| status != 200)
        {
            assert!(
                began.elapsed() < BROKEN_AFTER,
                "never ready:\n{}",
                daemon.log()
            );
            sleep(POLL_PAUSE).await;
        }
        times.push(ms(began.elapsed()));
        assert!(
            daemon.stop().await.success(),
            "the daemon ends with success"
        );
    }
    figure(
        "start to ready, p50",
        percentile(&mut times, 0.5),
        "ms",
        Target::AtMost(1000.0),
    );
    figure(
        "start to ready, slowest",
        percentile(&mut times, 1.0),
        "ms",
        Target::None,
    );
}
