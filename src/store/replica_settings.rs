//! The settings and scripts of a daemon, as its heartbeat has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The value of a setting, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedSetting {
    /// The value; not that of a database URL.
    pub value: String,
    /// A flag, a variable, a file, or the default.
    pub from: String,
}

/// The settings by name, except those that are not set.
pub type ExplainedSettings = BTreeMap<String, ExplainedSetting>;

/// The settings and scripts of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaSettings {
    /// Its settings that are no secrets; and its `PATH`.
    pub settings: ExplainedSettings,
    /// The SHA-256 of the file of each of its commands, by the name of the setting.
    pub scripts: BTreeMap<String, String>,
}

impl ReplicaSettings {
    /// The value of a setting; empty if it is not set.
    pub fn value(&self, name: &str) -> &str {
        let found = self.settings.get(name);
        found.map_or("", |setting| setting.value.as_str())
    }
}
