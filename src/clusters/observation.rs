//! What a look at the host found: three values, never two.
//!
//! A failed, empty or late read is [`Observation::Unknown`]; it is never taken
//! for absence (law 4 in `docs/ARCHITECTURE.md`).

use std::fmt;

/// What one look at one cluster found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It exists.
    Present(Condition),
    /// The provider answered, and it is not there.
    Absent,
    /// The look itself failed; the text says how.
    Unknown(String),
}

/// How a cluster that exists is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It answered its probe.
    Healthy,
    /// It did not; the text says how.
    Unhealthy(String),
    /// It is there, but deliberately not running.
    Stopped,
}

impl Observation {
    /// It exists and answered.
    pub const HEALTHY: Self = Self::Present(Condition::Healthy);
    /// It exists and is stopped.
    pub const STOPPED: Self = Self::Present(Condition::Stopped);

    /// It exists and does not answer, with the reason.
    pub fn unhealthy(why: impl Into<String>) -> Self {
        Self::Present(Condition::Unhealthy(why.into()))
    }

    /// The look failed, with the reason.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown(why.into())
    }

    /// Whether it answered its probe.
    pub fn is_healthy(&self) -> bool {
        *self == Self::HEALTHY
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present(Condition::Healthy) => f.write_str("it answers its probe"),
            Self::Present(Condition::Unhealthy(why)) => {
                write!(f, "it exists but is unhealthy: {why}")
            }
            Self::Present(Condition::Stopped) => f.write_str("it exists but is stopped"),
            Self::Absent => f.write_str("it does not exist"),
            Self::Unknown(why) => write!(f, "it cannot be observed: {why}"),
        }
    }
}
