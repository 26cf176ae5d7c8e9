//! The units: accepted by systemd, restricted, and consistent with the limits of the
//! code.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use kindler::config::settings;

use super::{files, install, printed, read, repository, succeeds, tool};

const SERVICES: [&str; 3] = [
    "kindler.service",
    "kindler-once.service",
    "kindler-api.service",
];

/// The highest accepted score of `systemd-analyze security`; lower is better.
const EXPOSURE: f64 = 3.0;

/// The assignments of a unit, in order.
fn unit(name: &str) -> Vec<(String, String)> {
    read(repository("deploy/systemd").join(name))
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn value(unit: &[(String, String)], key: &str) -> String {
    let found = unit.iter().find(|(name, _)| name == key);
    found.unwrap_or_else(|| panic!("no {key}")).1.clone()
}

fn duration(text: &str) -> Duration {
    kindler::duration::parse(text).unwrap()
}

#[test]
fn systemd_accepts_the_units() {
    let Some(mut analyze) = tool("systemd-analyze") else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    succeeds(&mut install(root.path(), "/usr", "install"));
    let units = root.path().join("usr/lib/systemd/system");
    // The units also refer to the system's shell and targets.
    fs::create_dir(root.path().join("bin")).unwrap();
    fs::copy("/bin/sh", root.path().join("bin/sh")).unwrap();
    for entry in fs::read_dir("/usr/lib/systemd/system").unwrap().flatten() {
        let name = entry.file_name();
        let target = Path::new(&name)
            .extension()
            .is_some_and(|ext| ext == "target");
        if target && entry.path().is_file() {
            fs::copy(entry.path(), units.join(name)).unwrap();
        }
    }
    let kindler_services = files(&units)
        .into_iter()
        .filter(|name| name.starts_with("kindler"));
    let paths: Vec<_> = kindler_services.map(|name| units.join(name)).collect();
    assert_eq!(paths.len(), 4);
    let output = analyze
        .arg("--root")
        .arg(root.path())
        .args(["--man=no", "--recursive-errors=no", "verify"])
        .args(&paths)
        .output()
        .unwrap();
    // systemd-analyze warns of unknown keys and still succeeds.
    assert!(output.status.success(), "{}", printed(&output));
    assert_eq!(printed(&output), "");
}

#[test]
fn the_units_exposure_is_limited() {
    for service in SERVICES {
        let Some(mut analyze) = tool("systemd-analyze") else {
            return;
        };
        let output = succeeds(
            analyze
                .args(["security", "--offline=true", "--no-pager"])
                .arg(repository("deploy/systemd").join(service)),
        );
        let level = output
            .split("Overall exposure level for ")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().nth(1))
            .unwrap_or_else(|| panic!("{output}"));
        let level: f64 = level.parse().unwrap();
        assert!(level <= EXPOSURE, "{service} {level}: {output}");
    }
}

#[test]
fn systemd_timeouts_exceed_the_daemons_own_limits() {
    let defaults: BTreeMap<_, _> = settings()
        .into_iter()
        .map(|setting| (setting.name, setting.default))
        .collect();
    let own = duration(&defaults["shutdown_grace"])
        + duration(&defaults["kill_grace"])
        // The last statements of commands and the database.
        + Duration::from_secs(5 + 30);
    for service in ["kindler.service", "kindler-once.service"] {
        let stop = duration(&value(&unit(service), "TimeoutStopSec"));
        assert!(stop > own, "{service}: {stop:?} for {own:?}");
    }
    for service in ["kindler.service", "kindler-api.service"] {
        let unit = unit(service);
        // A watchdog message may wait for a stalled database.
        assert!(duration(&value(&unit, "WatchdogSec")) >= Duration::from_secs(30));
        assert!(duration(&value(&unit, "TimeoutStartSec")) > Duration::from_secs(20));
        assert_eq!(value(&unit, "Type"), "notify");
    }
}

#[test]
fn the_units_memory_is_limited() {
    for service in SERVICES {
        let unit = unit(service);
        for key in ["MemoryHigh", "MemoryMax"] {
            let limit = value(&unit, key);
            assert!(limit.ends_with(['M', 'G']), "{service} {key}: {limit}");
        }
    }
}

#[test]
fn the_units_are_equally_hardened_and_the_api_lacks_docker() {
    let hardening = |name: &str| {
        let unit = unit(name);
        let start = unit.iter().position(|(key, _)| key == "NoNewPrivileges");
        unit[start.unwrap()..]
            .iter()
            .filter(|(key, _)| key != "WantedBy")
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        hardening("kindler.service"),
        hardening("kindler-once.service")
    );
    assert!(hardening("kindler.service").len() > 20);
    let api = unit("kindler-api.service");
    assert!(!api.iter().any(|(key, _)| key == "SupplementaryGroups"));
    assert!(read(repository("deploy/systemd/kindler.service")).contains("is root on this host"));
}

#[test]
fn the_units_name_settings_that_exist() {
    let known: Vec<_> = settings().into_iter().map(|setting| setting.env).collect();
    for service in SERVICES {
        let unit = unit(service);
        for (key, value) in &unit {
            if key != "Environment" {
                continue;
            }
            for assignment in value.split(' ') {
                let (name, _) = assignment.split_once('=').unwrap();
                let kindler_services = name.starts_with("KINDLER_");
                assert!(
                    !kindler_services || known.iter().any(|env| env == name),
                    "{name}"
                );
            }
        }
        assert_eq!(value(&unit, "User"), "kindler");
        for (key, value) in &unit {
            // The name before the colon is the name of a setting.
            let credential = value.split(':').next().unwrap();
            let variable = format!("KINDLER_{}_FILE", credential.to_uppercase());
            assert!(
                key != "LoadCredential" || known.contains(&variable),
                "{value}"
            );
        }
        value(&unit, "LoadCredential");
    }
}

#[test]
fn the_user_and_the_folders_are_created() {
    let Some(mut sysusers) = tool("systemd-sysusers") else {
        return;
    };
    let Some(mut tmpfiles) = tool("systemd-tmpfiles") else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let output = |tool: &mut std::process::Command, file: &str| {
        let root = format!("--root={}", root.path().display());
        succeeds(tool.arg(root).arg(repository("deploy/systemd").join(file)))
    };
    output(&mut sysusers, "kindler.sysusers");
    let passwd = read(root.path().join("etc/passwd"));
    assert!(
        passwd.contains("/var/lib/kindler:/usr/sbin/nologin"),
        "{passwd}"
    );
    let groups = read(root.path().join("etc/group"));
    let docker = groups.lines().find(|line| line.starts_with("docker:"));
    assert!(
        docker.unwrap().ends_with(':'),
        "the group must have no members: {groups}"
    );
    output(tmpfiles.arg("--create"), "kindler.tmpfiles");
    for folder in ["etc/kindler", "etc/credstore", "var/lib/kindler"] {
        assert!(root.path().join(folder).is_dir(), "{folder}");
    }
}
