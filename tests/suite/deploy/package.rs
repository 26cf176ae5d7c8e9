//! The Debian package: built, inspected, installed into a temporary root, run there,
//! removed and purged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{files, read, repository, succeeds, tool};
use crate::kit::{Database, Host, KINDLER, Sql, daemon_settings};

/// Builds the package; `None` if its tools are missing.
pub(crate) fn build(into: &Path) -> Option<PathBuf> {
    tool("dpkg-deb")?;
    let mut command = Command::new("sh");
    command
        .arg(repository("deploy/debian/build.sh"))
        .env("BINARY", KINDLER)
        .env("OUT", into)
        // A test does not need a small package.
        .env("COMPRESSION", "none");
    let output = succeeds(&mut command);
    let line = output.lines().find(|line| line.ends_with(".deb"));
    Some(PathBuf::from(line.unwrap()))
}

/// dpkg with a temporary root, and maintainer scripts that use it.
fn dpkg(root: &Path) -> Option<Command> {
    let as_root = rustix::process::geteuid().is_root();
    let mut command = if as_root {
        tool("dpkg")?
    } else {
        let mut fakeroot = tool("fakeroot")?;
        fakeroot.arg("dpkg");
        fakeroot
    };
    command
        .arg(format!("--root={}", root.display()))
        .args(["--force-script-chrootless", "--force-not-root"])
        // The dependencies are not installed in this root.
        .args(["--force-depends", "--log=/dev/null"]);
    Some(command)
}

/// The files in the root, except dpkg's own and the list of users.
fn remaining_files(root: &Path) -> Vec<String> {
    let users = ["passwd", "group", "shadow", "gshadow"];
    files(root)
        .into_iter()
        .filter(|file| !file.starts_with("var/lib/dpkg/"))
        .filter(|file| {
            let name = file.strip_prefix("etc/").unwrap_or(file);
            !users.iter().any(|user| name.trim_end_matches('-') == *user) && name != ".pwd.lock"
        })
        .collect()
}

/// Migrates an empty database and creates a cluster from a row in it.
async fn expect_cluster(kindler: &Path) {
    let (database, host) = (Database::create().await, Host::new());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(kindler);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", host.path())
            .env("KINDLER_DATABASE_URL", database.url())
            .env("KINDLER_STATE_DIR", host.state_dir())
            .current_dir(host.path());
        daemon_settings(&mut command, &host);
        succeeds(&mut command)
    };
    run(&["migrate"]);
    database.declare("dev").await;
    run(&["once"]);
    let state = "SELECT actual_state FROM clusters WHERE name = 'dev'";
    assert_eq!(database.value::<String>(state).await, "running");
}

#[tokio::test]
async fn the_package_installs_runs_upgrades_and_purges() {
    let folder = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let Some(package) = build(folder.path()) else {
        return;
    };
    for name in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let Some(mut install) = dpkg(root) else {
        return;
    };
    succeeds(install.arg("-i").arg(&package));
    let installed = remaining_files(root);
    for file in [
        "usr/bin/kindler",
        "usr/lib/systemd/system/kindler.service",
        "usr/share/man/man1/kindler.1.gz",
        "usr/share/bash-completion/completions/kindler",
        "usr/share/doc/kindler/copyright",
        "usr/share/doc/kindler/changelog.Debian.gz",
        "usr/share/doc/kindler/examples/roles.sql",
        "usr/share/doc/kindler/dashboards/fleet.json",
        "usr/share/doc/kindler/dashboards/alerts/kindler.rules.yml",
        "usr/share/doc/kindler/docs/runbooks/clusterfailed.md",
        "etc/kindler/kindler.toml",
    ] {
        assert!(
            installed.iter().any(|f| f == file),
            "{file}: {installed:#?}"
        );
    }
    let version = succeeds(Command::new(root.join("usr/bin/kindler")).arg("--version"));
    assert_eq!(
        version.trim(),
        format!("kindler {}", env!("CARGO_PKG_VERSION"))
    );
    expect_cluster(&root.join("usr/bin/kindler")).await;
    if tool("systemd-sysusers").is_some() {
        assert!(read(root.join("etc/passwd")).contains("kindler:"));
        assert!(root.join("var/lib/kindler").is_dir());
    }

    // Settings and state are kept by an upgrade and a removal, but not by a purge.
    let settings = root.join("etc/kindler/kindler.toml");
    fs::write(&settings, "concurrency = 9\n").unwrap();
    fs::create_dir_all(root.join("var/lib/kindler/logs")).unwrap();
    fs::create_dir_all(root.join("etc/credstore")).unwrap();
    for file in [
        "var/lib/kindler/logs/a.log",
        "etc/credstore/kindler.database_url",
    ] {
        fs::write(root.join(file), "x").unwrap();
    }
    succeeds(
        dpkg(root)
            .unwrap()
            .args(["--force-confold", "-i"])
            .arg(&package),
    );
    assert_eq!(read(&settings), "concurrency = 9\n");
    succeeds(dpkg(root).unwrap().args(["-r", "kindler"]));
    assert_eq!(
        remaining_files(root),
        [
            "etc/credstore/kindler.database_url",
            "etc/kindler/kindler.toml",
            "var/lib/kindler/logs/a.log",
        ]
    );
    succeeds(dpkg(root).unwrap().args(["-P", "kindler"]));
    assert!(
        remaining_files(root).is_empty(),
        "{:#?}",
        remaining_files(root)
    );
    for folder in ["etc/kindler", "etc/credstore", "var/lib/kindler"] {
        assert!(!root.join(folder).exists(), "{folder} still exists");
    }
}

/// Works with another target folder of cargo.
#[test]
fn make_uses_the_target_folder_of_cargo() {
    let output = |target: &str, folder: Option<&str>| {
        let mut make = Command::new("make");
        make.args(["--dry-run", "--directory"])
            .arg(repository(""))
            .arg(target)
            .env_remove("CARGO_TARGET_DIR");
        succeeds(make.envs(folder.map(|folder| ("CARGO_TARGET_DIR", folder))))
    };
    assert!(output("run", None).contains("exec ./target/release/kindler dev"));
    assert!(output("run", Some("/elsewhere")).contains("exec /elsewhere/release/kindler dev"));
    assert!(
        output("test-e2e", Some("/elsewhere")).contains("\"/elsewhere/debug/kindler\" npm test")
    );
    assert!(output("deb", Some("/elsewhere")).contains("BINARY=/elsewhere/release/kindler"));
}

#[test]
fn lintian_accepts_the_package() {
    let Some(mut lintian) = tool("lintian") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let Some(package) = build(folder.path()) else {
        return;
    };
    // These come from the debug build without compression.
    let of_this_build = "unstripped-binary-or-object,uses-no-compression-for-control-tarball,\
                         uses-no-compression-for-data-tarball";
    let output = succeeds(
        lintian
            .args(["--no-cfg", "--fail-on", "error,warning"])
            .args(["--suppress-tags", of_this_build])
            .arg(&package),
    );
    let complaints: Vec<_> = output
        .lines()
        .filter(|line| line.starts_with("E:") || line.starts_with("W:"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
