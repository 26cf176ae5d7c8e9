//! The identity of this process among the daemons of one database.

use super::replicas::own_settings;
use crate::store::Replica;

/// The owner is unique to this start of the process, so that a restarted daemon is
/// never confused with its predecessor.
pub(super) fn this_process(listen: Option<String>) -> Replica {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_else(|_| "localhost".to_owned());
    let pid = std::process::id();
    Replica {
        owner: format!("{host}:{pid}:{:08x}", fastrand::u32(..)),
        pid: i32::try_from(pid).unwrap_or(0),
        host,
        listen,
        identity: own_settings(),
    }
}
