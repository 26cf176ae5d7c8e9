//! Compares this daemon with the other daemons of its database: their settings, their scripts,
//! and whether they are on standby.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::command::script_files;
use crate::config::{self, DaemonSettings, HEARTBEAT, HostCommands};
use crate::drivers::located_on;
use crate::findings::{Finding, FindingCode};
use crate::store::{ExplainedSetting, ReplicaSettings, ReplicaStatus};

/// The settings that decide what happens to a cluster: with others, it depends on the daemon that
/// works on it. Paths of commands are compared by the content of their files.
const COMPARED: [&str; 28] = [
    "driver",
    "delete_cap",
    "lease_ttl",
    "health_interval",
    "health_reprobe",
    "health_threshold",
    "repair_suspension",
    "backoff_initial",
    "backoff_max",
    "pass_env",
    "create_deadline",
    "delete_deadline",
    "probe_deadline",
    "kill_grace",
    "base_domain",
    "k3d_image",
    "kind_image",
    "node_cpus",
    "node_memory",
    "images",
    "pull_images",
    "ingress",
    "kubeconfig_merge",
    "sandbox_create_delay",
    "sandbox_delete_delay",
    "sandbox_failure_rate",
    "sandbox_fail",
    "sandbox_hang",
];

/// How many differences a finding names.
const NAMED: usize = 3;

/// The settings of this process, with its `PATH`. Its scripts are read later.
pub(super) fn own_settings() -> ReplicaSettings {
    let args: Vec<_> = std::env::args_os().collect();
    // They were read a moment ago; what cannot be read now is not compared.
    let mut settings = config::explained(&args).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = ExplainedSetting {
        value: path.to_string_lossy().into_owned(),
        from: "variable PATH".to_owned(),
    };
    settings.insert("PATH".to_owned(), path);
    ReplicaSettings {
        settings,
        scripts: BTreeMap::new(),
    }
}

/// The commands of the settings, by name.
pub(super) fn own_scripts(settings: &DaemonSettings) -> Vec<(&'static str, PathBuf)> {
    let HostCommands {
        create_command,
        delete_command,
        probe_command,
        exists_command,
        start_command,
        stop_command,
        ..
    } = settings.commands.clone();
    [
        ("create_command", create_command),
        ("delete_command", delete_command),
        ("probe_command", probe_command),
        ("exists_command", exists_command),
        ("start_command", start_command),
        ("stop_command", stop_command),
    ]
    .into_iter()
    .filter_map(|(name, path)| Some((name, path?)))
    .collect()
}

/// The hashes of the scripts' files; of the last time, if a file system does not answer.
pub(super) async fn hashed(
    scripts: &[(&'static str, PathBuf)],
    last: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    if scripts.is_empty() {
        return BTreeMap::new();
    }
    let scripts = scripts.to_vec();
    let read = script_files().run(move || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let hash = |(name, program): (&str, PathBuf)| (name.to_owned(), file_hash(&program, &path));
        scripts.into_iter().map(hash).collect()
    });
    read.await.unwrap_or_else(|_| last.clone())
}

fn file_hash(program: &Path, path: &OsStr) -> String {
    let content = located_on(program, path).and_then(|file| std::fs::read(file).ok());
    let Some(content) = content else {
        return "cannot be read".to_owned();
    };
    let hash = Sha256::digest(content);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is wrong between this daemon and the others that work now.
pub(super) fn compared(owner: &str, replicas: &[ReplicaStatus]) -> Vec<Finding> {
    let Some(me) = replicas.iter().find(|one| one.owner == owner) else {
        return Vec::new();
    };
    let others = replicas
        .iter()
        .filter(|one| one.owner != owner && one.alive(HEARTBEAT));
    let others: Vec<_> = others.collect();
    let mut found = Vec::new();
    let peers = others.iter().filter(|one| one.selector == me.selector);
    for peer in peers {
        let differences = differences(&me.identity, &peer.identity);
        if differences.is_empty() {
            continue;
        }
        let more = differences.len() - differences.len().min(NAMED);
        let more = match more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        found.push(Finding::new(
            FindingCode::ReplicasDiffer,
            format!(
                "this daemon and {} pid {} work on the same clusters, but {}{more}",
                peer.host,
                peer.pid,
                differences[..differences.len().min(NAMED)].join(", ")
            ),
            "give both the same settings and scripts, and restart the one that was changed",
        ));
        // One is enough: the others differ from this one or from that one.
        break;
    }
    let standby = others.iter().filter(|one| one.standby);
    let standby: Vec<_> = standby
        .map(|one| format!("{} pid {} (version {})", one.host, one.pid, one.version))
        .collect();
    if !standby.is_empty() && !me.standby {
        found.push(Finding::new(
            FindingCode::ReplicaOnStandby,
            format!(
                "on standby, and so starts no work: {}; the schema is newer than its release",
                standby.join(", ")
            ),
            "finish the upgrade there: start the release that the schema belongs to",
        ));
    }
    found
}

/// The settings and scripts that differ. A setting that only one of them knows is one of another
/// release.
fn differences(me: &ReplicaSettings, other: &ReplicaSettings) -> Vec<String> {
    let mut found = Vec::new();
    if other.settings.is_empty() || me.settings.is_empty() {
        return found;
    }
    for name in COMPARED {
        let (here, there) = (me.value(name), other.value(name));
        if here != there {
            let shown = |value: &str| match value {
                "" => "not set".to_owned(),
                value => value.to_owned(),
            };
            let name = name.to_uppercase();
            let (here, there) = (shown(here), shown(there));
            found.push(format!("KINDLER_{name} is {here} here and {there} there"));
        }
    }
    let names = me.scripts.keys().chain(other.scripts.keys());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.dedup();
    for name in names {
        if me.scripts.get(name) != other.scripts.get(name) {
            let name = name.to_uppercase();
            found.push(format!("the files of KINDLER_{name} differ"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> ReplicaSettings {
        let setting = |value: &str| ExplainedSetting {
            value: value.to_owned(),
            from: config::DEFAULT.to_owned(),
        };
        let mut settings = ReplicaSettings::default();
        for (name, value) in [("driver", "script"), ("listen", "a"), (name, value)] {
            settings.settings.insert(name.to_owned(), setting(value));
        }
        settings
    }

    #[test]
    fn only_what_decides_about_clusters_is_compared() {
        let me = with("lease_ttl", "15s");
        assert!(differences(&me, &me).is_empty());
        assert!(differences(&me, &ReplicaSettings::default()).is_empty());
        let mut other = with("lease_ttl", "30s");
        other.settings.get_mut("listen").unwrap().value = "b".to_owned();
        other.scripts.insert("create_command".into(), "1".into());
        assert_eq!(
            differences(&me, &other),
            [
                "KINDLER_LEASE_TTL is 15s here and 30s there",
                "the files of KINDLER_CREATE_COMMAND differ"
            ]
        );
    }

    #[test]
    fn every_compared_setting_exists() {
        let known = config::settings();
        for name in COMPARED {
            assert!(known.iter().any(|one| one.name == name), "{name}");
        }
    }
}
