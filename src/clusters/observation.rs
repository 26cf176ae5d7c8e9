//! The observation of a cluster: present, absent or unknown.
//!
//! A failed, empty or late read is [`Observation::Unknown`], never an absence (law 4 in
//! `docs/ARCHITECTURE.md`).

use std::fmt;

/// The result of observing one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It exists.
    Present(PresentState),
    /// The provider answered that it does not exist.
    Absent,
    /// The observation failed, for this reason.
    Unknown(String),
}

/// What is observed of a cluster that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresentState {
    /// Its probe succeeded.
    Healthy,
    /// Its probe failed, for this reason.
    Unhealthy(String),
    /// It is stopped on purpose.
    Stopped,
    /// It is not this row's, for this reason; nothing else is observed of it.
    Foreign(String),
}

impl Observation {
    /// It exists and its probe succeeded.
    pub const HEALTHY: Self = Self::Present(PresentState::Healthy);
    /// It exists and is stopped.
    pub const STOPPED: Self = Self::Present(PresentState::Stopped);

    /// It exists and its probe failed, for this reason.
    pub fn unhealthy(why: impl Into<String>) -> Self {
        Self::Present(PresentState::Unhealthy(why.into()))
    }

    /// A cluster of this name exists that is not this row's; the text says so, and what to do.
    pub fn foreign(why: impl Into<String>) -> Self {
        Self::Present(PresentState::Foreign(why.into()))
    }

    /// The observation failed, for this reason.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown(why.into())
    }

    /// Whether the probe succeeded.
    pub fn is_healthy(&self) -> bool {
        *self == Self::HEALTHY
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present(PresentState::Healthy) => f.write_str("the cluster is healthy"),
            Self::Present(PresentState::Unhealthy(why)) => {
                write!(f, "the cluster is unhealthy: {why}")
            }
            Self::Present(PresentState::Stopped) => f.write_str("the cluster is stopped"),
            Self::Present(PresentState::Foreign(why)) => f.write_str(why),
            Self::Absent => f.write_str("the cluster does not exist"),
            Self::Unknown(why) => write!(f, "the cluster cannot be observed: {why}"),
        }
    }
}
