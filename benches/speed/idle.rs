//! The idle daemon: its memory and its CPU share with 10,000 settled rows and the
//! default settings. The window is as long as the time between two full passes.

use std::fs;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::kit::{Daemon, Host, PrivateServer, Sql};
use crate::report::{Target, figure};
use crate::rig::migrated;

/// After it became ready: time for the first full pass, and for threads that only the
/// start needed.
const SETTLE: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(30);

/// Rows that run as declared and are not due before tomorrow.
const SETTLED: &str = "
    ALTER TABLE clusters DISABLE TRIGGER USER;
    INSERT INTO clusters (name, provider, pf_port, http_port, https_port, actual_state, observed_generation, next_check_at, observed_spec_hash)
    SELECT 'settled-' || n, 'kind', 1000 + n, 20000 + n, 40000 + n, 'running', 1, now() + interval '1 day',
           kindler_spec_hash('kind', NULL, 30080, 1000 + n, 20000 + n, 40000 + n, true, true, true)
    FROM generate_series(1, 10000) n;
    ALTER TABLE clusters ENABLE TRIGGER USER;
    ANALYZE clusters";

/// Measures one daemon in one window.
pub async fn measure(server: &PrivateServer) {
    let database = migrated(server).await;
    database.run(SETTLED).await;
    let host = Host::new();
    let daemon = Daemon::with_defaults(&database.url(), &host).start().await;
    sleep(SETTLE).await;

    let (began, before) = (Instant::now(), cpu_seconds(daemon.pid()));
    let mut most_mb: f64 = 0.0;
    while began.elapsed() < WINDOW {
        sleep(Duration::from_secs(1)).await;
        most_mb = most_mb.max(resident_mb(daemon.pid(), "VmRSS:"));
    }
    let used = cpu_seconds(daemon.pid()) - before;
    let percent = 100.0 * used / began.elapsed().as_secs_f64();
    let due: i64 = database
        .value("SELECT count(*) FROM clusters WHERE due_at < now() + interval '1 hour'")
        .await;
    assert_eq!(due, 0, "the rows stayed settled");
    figure(
        "idle with 10,000 rows, memory (RSS)",
        most_mb,
        "MB",
        Target::AtMost(20.0),
    );
    figure(
        "idle with 10,000 rows, not shared with a file",
        resident_mb(daemon.pid(), "RssAnon:"),
        "MB",
        Target::None,
    );
    figure(
        "idle with 10,000 rows, share of a core",
        percent,
        "%",
        Target::AtMost(1.0),
    );
}

/// A field of the process's status, in megabytes.
pub fn resident_mb(pid: i32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running daemon");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .expect("its memory");
    let kib: f64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kib * 1024.0 / 1e6
}

/// The CPU time of its threads, in nanoseconds; while it is idle, no thread starts or
/// ends.
fn cpu_seconds(pid: i32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a running daemon");
    let nanoseconds: u64 = threads
        .map(|thread| thread.expect("a thread").path().join("schedstat"))
        .map(|path| fs::read_to_string(path).expect("a running thread"))
        .map(|text| {
            text.split(' ')
                .next()
                .and_then(|word| word.parse::<u64>().ok())
        })
        .map(|used| used.expect("a number first"))
        .sum();
    nanoseconds as f64 / 1e9
}
