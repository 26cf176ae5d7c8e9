//! Findings: what is wrong around a daemon although it works, such as a missing trigger or a
//! full state folder. Each has a cause and a next step, and is shown everywhere alike: in the
//! log, the heartbeat (and so `kindler status` and the page), `/readyz` and the metrics.
//!
//! A check reports its present result; what it does not report again ends. This
//! module checks nothing itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};
use tracing::{info, warn};

/// How much a finding matters.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Display,
    IntoStaticStr,
    Serialize,
    Deserialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something is weaker than it should be.
    Warning,
    /// A promise does not hold.
    Failure,
}

/// The kinds of findings: a closed list, because it is the label of a metric.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Display,
    IntoStaticStr,
    VariantArray,
    Serialize,
    Deserialize,
)]
pub enum FindingCode {
    /// Triggers, constraints or functions of Kindler's tables are missing, disabled or changed.
    SchemaDamaged,
    /// The tables are missing, not found, or of an earlier release.
    SchemaUnusable,
    /// The database refuses a statement of the heartbeat.
    StatementRefused,
    /// Row-level security can hide rows from the daemon.
    RowsHidden,
    /// The daemon's role lacks a privilege.
    PrivilegeMissing,
    /// The database cannot store every text.
    EncodingLimited,
    /// The server can lose commits that it acknowledged.
    DurabilityOff,
    /// The clocks of host and database differ.
    ClockApart,
    /// The state folder has no space.
    StateFolderFull,
    /// The state folder cannot be written.
    StateFolderUnwritable,
    /// The state folder belongs to another user.
    StateFolderForeign,
    /// The state folder does not answer in time.
    StateFolderSlow,
    /// Daemons with the same selector have different settings or scripts.
    ReplicasDiffer,
    /// A replica is on standby while another one works.
    ReplicaOnStandby,
    /// No daemon works, beside a server of the page and the API alone.
    NoDaemon,
    /// Most clusters do not answer, so repairs are suspended.
    RepairsSuspended,
    /// Most clusters vanished at about the same time, so none is created again.
    RecreationsSuspended,
    /// No cluster is claimed for a while after a failover or a restore.
    ClaimsDeferred,
    /// This host cannot make or change clusters.
    HostUnusable,
    /// This host will soon be unable to make or change clusters.
    HostLimited,
    /// Several clusters of one placement declare the same port of the host.
    PortsShared,
    /// Clusters exist on this host whose rows have gone.
    ClustersWithoutRow,
}

impl FindingCode {
    /// Every code.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Self::SchemaDamaged
            | Self::SchemaUnusable
            | Self::StatementRefused
            | Self::RowsHidden
            | Self::PrivilegeMissing
            | Self::StateFolderFull
            | Self::StateFolderUnwritable
            | Self::StateFolderSlow
            | Self::RepairsSuspended
            | Self::RecreationsSuspended
            | Self::HostUnusable
            | Self::NoDaemon
            | Self::ClustersWithoutRow => Severity::Failure,
            Self::EncodingLimited
            | Self::DurabilityOff
            | Self::ClockApart
            | Self::StateFolderForeign
            | Self::ReplicasDiffer
            | Self::ReplicaOnStandby
            | Self::ClaimsDeferred
            | Self::HostLimited
            | Self::PortsShared => Severity::Warning,
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its kind.
    pub code: FindingCode,
    /// How much it matters.
    pub severity: Severity,
    /// The cause.
    pub what: String,
    /// What a person does about it.
    pub next: String,
    /// Since when it was found.
    pub since: Timestamp,
}

impl Finding {
    /// A finding of this moment.
    pub fn new(code: FindingCode, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            what: what.into(),
            next: next.into(),
            since: Timestamp::now(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; next: {}", self.code, self.what, self.next)
    }
}

/// The present findings of a process; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    by_check: Arc<Mutex<BTreeMap<&'static str, Vec<Finding>>>>,
}

impl Findings {
    /// Replaces the findings of a check, and logs what is new and what has ended.
    pub fn report(&self, check: &'static str, mut found: Vec<Finding>) {
        let mut by_check = self.by_check.lock().unwrap_or_else(PoisonError::into_inner);
        let before = by_check.remove(check).unwrap_or_default();
        for finding in &mut found {
            let same = |was: &&Finding| was.code == finding.code;
            match before.iter().find(same) {
                Some(was) => finding.since = was.since,
                None => {
                    let (code, next) = (finding.code, &finding.next);
                    warn!(%code, reason = finding.what, next, "found");
                }
            }
        }
        for was in &before {
            if !found.iter().any(|finding| finding.code == was.code) {
                info!(code = %was.code, "ended");
            }
        }
        if !found.is_empty() {
            by_check.insert(check, found);
        }
    }

    /// All findings, failures first.
    pub fn list(&self) -> Vec<Finding> {
        let by_check = self.by_check.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Finding> = by_check.values().flatten().cloned().collect();
        all.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.code));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_stays_since_it_was_found_and_ends_when_not_reported() {
        let findings = Findings::default();
        let slow = || {
            Finding::new(
                FindingCode::StateFolderSlow,
                "no answer",
                "look at the disk",
            )
        };
        findings.report("folder", vec![slow()]);
        let first = findings.list();
        findings.report("folder", vec![slow()]);
        assert_eq!(findings.list(), first);
        findings.report(
            "clock",
            vec![Finding::new(FindingCode::ClockApart, "1 h", "set it")],
        );
        let codes: Vec<_> = findings.list().iter().map(|found| found.code).collect();
        assert_eq!(
            codes,
            [FindingCode::StateFolderSlow, FindingCode::ClockApart]
        );
        findings.report("folder", Vec::new());
        assert_eq!(findings.list().len(), 1);
    }
}
