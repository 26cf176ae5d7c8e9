//! Notices that the database has gone back: it has issued fewer terms than this host has seen,
//! because it was restored from a backup, or promoted without its last commits.
//!
//! Terms must rise for ever, and rows may say what is long outdated. So the database raises the
//! terms, and pauses the rows that say `absent`, before anything is claimed. What exists on the
//! host without a row is reported and not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use tracing::{error, warn};

use crate::clusters::{Cluster, ClusterName, Provider};
use crate::command::state_files;
use crate::core::database::DatabaseError;
use crate::drivers::Driver;
use crate::findings::{Finding, FindingCode};
use crate::store::{RAISED_BY, Store};

/// How many clusters are observed at once.
const OBSERVED_AT_ONCE: usize = 4;

/// The largest term that this host has seen.
#[derive(Debug)]
pub(super) struct SeenTerms {
    folder: PathBuf,
    /// The file of the database, and the largest term; none before the first look.
    seen: Option<(PathBuf, i64)>,
    since_failover: Duration,
}

/// A database that has gone back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WentBack {
    /// The rows that were paused now, because they say `absent`.
    pub(super) paused: Vec<String>,
    seen: i64,
    issued: i64,
}

impl WentBack {
    /// What happened and what to do next.
    pub(super) fn notice(&self) -> String {
        let Self {
            paused,
            seen,
            issued,
        } = self;
        let mut notice = if issued > seen {
            "the database was restored (sql/after_restore.sql has raised its terms)".to_owned()
        } else {
            format!(
                "the database has gone back: it had issued {issued} terms, and this host has \
                 seen {seen}; it was restored from a backup, or promoted without its last commits"
            )
        };
        if !paused.is_empty() {
            notice += &format!(
                "; paused, because they say absent: {}; check them (kindler list), then \
                 `kindler resume NAME` deletes and `kindler start NAME` keeps",
                paused.join(", ")
            );
        }
        notice
    }
}

impl SeenTerms {
    /// In the state folder; reads nothing yet.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.join("terms"),
            seen: None,
            since_failover: Duration::MAX,
        }
    }

    /// Compares what this host has seen with what the database has issued, and notes that. If
    /// the database has gone back, raises its terms and pauses the rows that say `absent`.
    pub(super) async fn check(&mut self, store: &Store) -> Result<Option<WentBack>, DatabaseError> {
        let terms = store.issued_terms().await?;
        self.since_failover = terms.since_failover;
        let (file, seen) = match self.seen.take() {
            Some(seen) => seen,
            None => {
                let file = self.folder.join(&terms.origin);
                let read = file.clone();
                let read = state_files().run(move || fs::read_to_string(read).ok());
                let seen = match read.await {
                    Ok(text) => text.and_then(|text| text.trim().parse().ok()),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        warn!(error, "the largest term of this host cannot be read");
                        return Ok(None);
                    }
                };
                (file, seen.unwrap_or(terms.issued))
            }
        };
        self.seen = Some((file.clone(), seen));
        let issued = terms.issued;
        let went_back = if issued < seen {
            let paused = store.went_back(seen).await?;
            Some(WentBack {
                paused,
                seen,
                issued,
            })
        } else {
            // Another daemon on this database, or a person, has handled it. They raised the
            // terms of the backup, or what they had seen themselves.
            (issued - seen >= RAISED_BY / 2).then_some(WentBack {
                paused: Vec::new(),
                seen,
                issued,
            })
        };
        let now = match went_back {
            Some(_) => store.issued_terms().await?.issued,
            None => issued,
        };
        self.note(&file, now, now != seen).await;
        self.seen = Some((file, now));
        store.claims().require_terms(now);
        Ok(went_back)
    }

    /// Says that no cluster is claimed yet on the server to which the database has moved, if
    /// that is so for leases of this lifetime.
    pub(super) fn failover(&self, lease: Duration) -> Option<Finding> {
        let left = lease.checked_sub(self.since_failover)?;
        let what = format!(
            "the database moved to another server, or was restored, {} s ago; no cluster is \
             claimed for another {} s, until every lease of before has ended",
            self.since_failover.as_secs(),
            left.as_secs() + 1
        );
        let next = "wait; the time is KINDLER_LEASE_TTL after a failover";
        Some(Finding::new(FindingCode::ClaimsDeferred, what, next))
    }

    /// Replaces the file as a whole, if it is to be or does not exist. An error delays the next
    /// notice only.
    async fn note(&self, file: &Path, term: i64, changed: bool) {
        let (folder, file) = (self.folder.clone(), file.to_owned());
        let written = state_files().run(move || {
            if !changed && file.exists() {
                return Ok(());
            }
            let part = file.with_extension(std::process::id().to_string());
            fs::create_dir_all(&folder)?;
            fs::write(&part, format!("{term}\n"))?;
            fs::rename(&part, file)
        });
        if let Err(error) = written.await.unwrap_or_else(Err) {
            let error = &error as &dyn std::error::Error;
            warn!(
                error,
                "the largest term could not be written to the state folder"
            );
        }
    }
}

/// Logs that the database has gone back, and returns the notice.
pub(super) fn report(went_back: &WentBack) -> String {
    let notice = went_back.notice();
    error!(reason = notice, "the database has gone back");
    notice
}

/// The clusters that exist on this host and have no row, as far as the logs of this host know
/// their names.
pub(super) async fn without_row(
    store: &Store,
    driver: &dyn Driver,
    logs: &Path,
) -> Result<Vec<String>, DatabaseError> {
    let rows = store.names().await?;
    let mut candidates = Vec::new();
    let logs = logs.to_owned();
    let logged = state_files().run(move || logged_names(&logs)).await;
    for name in logged.unwrap_or_default() {
        if !rows.iter().any(|row| row == name.as_str()) {
            let one = |provider| Cluster::undeclared(name.clone(), provider);
            candidates.extend(Provider::ALL.map(one));
        }
    }
    let mut found = Vec::new();
    for some in candidates.chunks(OBSERVED_AT_ONCE) {
        let observed = join_all(some.iter().map(|cluster| driver.exists(cluster))).await;
        let exist = some.iter().zip(observed);
        let exist = exist.filter(|(_, exists)| *exists == Some(true));
        found.extend(exist.map(|(cluster, _)| cluster.name.to_string()));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The names of the clusters that this host has logs of.
fn logged_names(logs: &Path) -> Vec<ClusterName> {
    let files = fs::read_dir(logs).into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            ClusterName::parse(name.strip_suffix(".log")?).ok()
        })
        .collect()
}
