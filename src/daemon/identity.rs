//! The identity of this process among the daemons of one database.

use crate::store::Replica;

/// The owner is unique to this start of the process, so that a restarted daemon is
/// never confused with its predecessor.
pub(super) fn this_process(listen: Option<String>) -> Replica {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_else(|_| "localhost".to_owned());
    let pid = std::process::id();
    Replica {
        // `pid_of` reads it.
        owner: format!("{host}:{pid}:{:08x}", fastrand::u32(..)),
        pid: i32::try_from(pid).unwrap_or(0),
        host,
        listen,
    }
}

/// The PID in the name of an owner on this host.
pub(super) fn pid_of(owner: &str) -> Option<u32> {
    owner.rsplit(':').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_is_read_from_the_name_of_an_owner() {
        let me = this_process(None);
        assert_eq!(pid_of(&me.owner), Some(std::process::id()));
        assert_eq!(pid_of("host"), None);
    }
}
