//! Failures that are ordered: which cluster can never be made, and in which step.

use std::fmt;
use std::str::FromStr;

use crate::clusters::{ClusterName, NameError};

use super::steps::NAMES;

/// `NAME` or `NAME:STEP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedFault {
    cluster: ClusterName,
    /// None: the first one that acts.
    step: Option<&'static str>,
}

/// Why a text orders no failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderedFaultError {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such step.
    #[error("step \"{0}\" is not known: use {names}", names = NAMES.join(", "))]
    Step(String),
}

impl OrderedFault {
    /// Whether `step` of `cluster` fails; `first` if no step has acted before it.
    pub(super) fn strikes(&self, cluster: &ClusterName, step: &str, first: bool) -> bool {
        self.cluster == *cluster && self.step.map_or(first, |struck| struck == step)
    }
}

impl FromStr for OrderedFault {
    type Err = OrderedFaultError;

    fn from_str(text: &str) -> Result<Self, OrderedFaultError> {
        let (name, step) = match text.split_once(':') {
            Some((name, step)) => (name, Some(step)),
            None => (text, None),
        };
        let known = |step: &str| {
            let found = NAMES.into_iter().find(|name| *name == step);
            found.ok_or_else(|| OrderedFaultError::Step(step.to_owned()))
        };
        Ok(Self {
            cluster: ClusterName::parse(name)?,
            step: step.map(known).transpose()?,
        })
    }
}

impl fmt::Display for OrderedFault {
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
    fn a_fault_strikes_its_step_or_the_first() {
        let dev = ClusterName::parse("dev").unwrap();
        let (any, port): (OrderedFault, OrderedFault) =
            ("dev".parse().unwrap(), "dev:port".parse().unwrap());
        assert!(any.strikes(&dev, "process", true) && !any.strikes(&dev, "process", false));
        assert!(port.strikes(&dev, "port", false) && !port.strikes(&dev, "folder", true));
        assert_eq!(port.to_string(), "dev:port");
        let refused = "dev:prt".parse::<OrderedFault>().unwrap_err().to_string();
        assert!(
            refused.contains("\"prt\" is not known: use folder, port"),
            "{refused}"
        );
    }
}
