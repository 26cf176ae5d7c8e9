//! Injected faults: which cluster fails or hangs, and in which step.

use std::fmt;
use std::str::FromStr;

use crate::clusters::{ClusterName, NameError};

use super::steps::NAMES;

/// `NAME` or `NAME:STEP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectedFault {
    cluster: ClusterName,
    /// None: the first step that acts.
    step: Option<&'static str>,
}

/// Why a text is not a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InjectedFaultError {
    /// The name is not a name of a cluster.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such step.
    #[error("step \"{0}\" is not known: use {names}", names = NAMES.join(", "))]
    Step(String),
}

impl InjectedFault {
    /// Whether the fault applies to `step` of `cluster`; `first` if no step has acted before
    /// it.
    pub(super) fn applies_to(&self, cluster: &ClusterName, step: &str, first: bool) -> bool {
        self.cluster == *cluster && self.step.map_or(first, |named| named == step)
    }
}

impl FromStr for InjectedFault {
    type Err = InjectedFaultError;

    fn from_str(text: &str) -> Result<Self, InjectedFaultError> {
        let text = text.trim();
        let (name, step) = match text.split_once(':') {
            Some((name, step)) => (name, Some(step)),
            None => (text, None),
        };
        let known = |step: &str| {
            let found = NAMES.into_iter().find(|name| *name == step);
            found.ok_or_else(|| InjectedFaultError::Step(step.to_owned()))
        };
        Ok(Self {
            cluster: ClusterName::parse(name)?,
            step: step.map(known).transpose()?,
        })
    }
}

impl fmt::Display for InjectedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Some(step) => write!(f, "{}:{step}", self.cluster),
            None => self.cluster.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_applies_to_its_step_or_the_first() {
        let dev = ClusterName::parse("dev").unwrap();
        let (any, port): (InjectedFault, InjectedFault) =
            ("dev".parse().unwrap(), "dev:port".parse().unwrap());
        assert!(any.applies_to(&dev, "process", true) && !any.applies_to(&dev, "process", false));
        assert!(port.applies_to(&dev, "port", false) && !port.applies_to(&dev, "folder", true));
        assert_eq!(port.to_string(), "dev:port");
        let rejected = "dev:prt".parse::<InjectedFault>().unwrap_err().to_string();
        assert!(
            rejected.contains("\"prt\" is not known: use folder, port"),
            "{rejected}"
        );
    }
}
