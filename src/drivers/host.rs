//! Faults of the host: they are nothing of a cluster, and a person mends them on the host.

/// What kind recommends for several clusters, of the kernel's inotify limits.
pub const INOTIFY: [(&str, u64); 2] = [("max_user_instances", 512), ("max_user_watches", 65_536)];

/// What is wrong with this host, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFault {
    /// The cause.
    pub what: String,
    /// What a person does about it.
    pub next: String,
    /// Whether actions wait for it; else it is a warning.
    pub blocks: bool,
}

impl HostFault {
    /// A fault that keeps actions from running.
    pub fn blocking(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            next: next.into(),
            blocks: true,
        }
    }

    /// A fault that will keep actions from running soon.
    pub fn warning(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            blocks: false,
            ..Self::blocking(what, next)
        }
    }
}
