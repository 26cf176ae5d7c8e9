//! Metrics, logs and traces: their values match the database and the host, the tools
//! that read them accept them, and none contains a secret.

mod bounds;
mod canaries;
mod fleet;
mod http;
mod logs;
mod process;
mod surroundings;
#[cfg(feature = "otel")]
mod traces;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::Client;

use crate::kit::{Daemon, DaemonBuilder, Database, Host, eventually, migrated};

/// A timeout for a busy machine; tests that pass do not reach it.
const SOON: Duration = Duration::from_secs(20);

/// A daemon with its database and host, and a superuser's session.
struct Scene {
    // Dropped first, because it uses the others.
    daemon: Daemon,
    host: Host,
    sql: Client,
    database: Database,
}

async fn scene() -> Scene {
    scene_with(|daemon| daemon).await
}

async fn scene_with(settings: impl FnOnce(DaemonBuilder) -> DaemonBuilder) -> Scene {
    let (database, host) = (migrated().await, Host::new());
    let daemon = settings(Daemon::builder(&database.url(), &host)).spawn();
    daemon.ready().await;
    let sql = database.connect().await;
    Scene {
        daemon,
        host,
        sql,
        database,
    }
}

impl Scene {
    async fn scrape(&self) -> Scrape {
        let (status, text) = self.daemon.get("/metrics").await.expect("an answer");
        assert_eq!(status, 200);
        Scrape::of(&text)
    }

    /// Waits until a sample has a value.
    async fn until_sample(&self, sample: &str, wanted: f64) {
        eventually(SOON, &format!("{sample} to be {wanted}"), || async {
            self.scrape().await.value(sample) == Some(wanted)
        })
        .await;
    }
}

/// The samples of one scrape, by `name{label="value",...}` with sorted labels.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let parsed = samples.map(|line| {
            let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            (sorted(sample), value)
        });
        let mut samples = BTreeMap::new();
        for (sample, value) in parsed {
            let twice = samples.insert(sample.clone(), value);
            assert!(twice.is_none(), "{sample} occurs twice");
        }
        Self(samples)
    }

    fn value(&self, sample: &str) -> Option<f64> {
        self.0.get(&sorted(sample)).copied()
    }

    #[track_caller]
    fn has(&self, sample: &str, value: f64) {
        assert_eq!(self.value(sample), Some(value), "{sample}");
    }

    /// The samples that contain a word.
    fn naming(&self, word: &str) -> Vec<&String> {
        self.0
            .keys()
            .filter(|sample| sample.contains(word))
            .collect()
    }
}

/// A sample with its labels in order.
fn sorted(sample: &str) -> String {
    let Some((name, labels)) = sample.split_once('{') else {
        return sample.to_owned();
    };
    // No value in these tests contains a comma.
    let mut labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
    labels.sort_unstable();
    format!("{name}{{{}}}", labels.join(","))
}
