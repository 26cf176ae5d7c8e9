//! The host: state folder and limits of the kernel.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Resource, getrlimit};

use super::DoctorReport;
use crate::config::Connection;
use crate::daemon::check_state_folder;
use crate::drivers::INOTIFY;
use crate::store::ReplicaSettings;

const GROUP: &str = "host";

/// Open files that a daemon with many streams needs.
const OPEN_FILES: u64 = 1024;

/// The name of this host, as in heartbeats.
pub(super) fn name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

/// Checks the state folder and the limits.
pub(super) async fn check(
    report: &mut DoctorReport,
    identity: &ReplicaSettings,
    connection: &Connection,
) {
    let folder = match identity.value("state_dir") {
        "" => connection.state_dir.clone(),
        of_daemon => PathBuf::from(of_daemon),
    };
    let checked = check_state_folder(&folder).await;
    for finding in &checked.found {
        report.finding(GROUP, finding);
    }
    if checked.found.is_empty() {
        let free = checked.space.unwrap_or_default().free / (1024 * 1024);
        let found = format!("{}: usable, {free} MiB free", folder.display());
        report.fine(GROUP, "state folder", found);
    }
    if identity.value("driver") != "sandbox" {
        inotify(report);
    }
    let open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    match open < OPEN_FILES {
        true => report.warn(
            GROUP,
            "open files",
            format!("this shell may open {open} files"),
            format!("ulimit -n {OPEN_FILES}; the systemd unit sets LimitNOFILE"),
        ),
        false => report.fine(GROUP, "open files", format!("at most {open}")),
    }
}

/// Each cluster's nodes use some; without, they start and fail later.
fn inotify(report: &mut DoctorReport) {
    for (name, needed) in INOTIFY {
        let path = format!("/proc/sys/fs/inotify/{name}");
        let text = fs::read_to_string(path).unwrap_or_default();
        let Ok(value) = text.trim().parse::<u64>() else {
            continue;
        };
        let shown = format!("fs.inotify.{name} is {value}");
        match value < needed {
            true => report.warn(
                GROUP,
                name,
                format!("{shown}: pods of several clusters fail with \"too many open files\""),
                format!("sysctl -w fs.inotify.{name}={needed}, and in /etc/sysctl.d"),
            ),
            false => report.fine(GROUP, name, shown),
        }
    }
}
