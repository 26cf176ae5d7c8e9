//! Finds the process that listens on a port, for the message "already in use by". It only reads
//! `/proc`; a process that it cannot find is "another process".

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// Whether a node can listen on this port of this address now.
pub(super) fn is_free(address: Ipv4Addr, port: u16) -> bool {
    let listening = TcpListener::bind((address, port));
    !matches!(listening, Err(error) if error.kind() == io::ErrorKind::AddrInUse)
}

/// The process that listens on this port, in words. Reads many small files, so it must not run
/// on a thread that renews leases.
pub(super) fn listener_name(port: u16) -> String {
    let unknown = || "another process".to_owned();
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| has_socket(*pid, &inodes))
        .map_or_else(unknown, describe)
}

/// The sockets that listen on this port, from the text of `/proc/net/tcp`.
fn listening(table: &str, port: u16) -> Vec<String> {
    let ending = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(str::split_whitespace);
    rows.filter_map(|mut fields| {
        let local = fields.nth(1)?;
        // State 0A is LISTEN; five fields further is the inode.
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        (local.ends_with(&ending) && state == "0A").then(|| format!("socket:[{inode}]"))
    })
    .collect()
}

fn has_socket(pid: u32, inodes: &[String]) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| inodes.iter().any(|inode| target == Path::new(inode)))
}

fn describe(pid: u32) -> String {
    let read = |file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let command = read("cmdline");
    let args: Vec<&str> = command.split('\0').collect();
    let node = args.get(1) == Some(&"sandbox-node");
    let name = args.iter().skip_while(|arg| **arg != "--name").nth(1);
    match name.filter(|_| node) {
        Some(name) => format!("sandbox cluster {name} (process {pid})"),
        None => format!("process {pid} ({})", read("comm").trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_of_a_port_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(Ipv4Addr::LOCALHOST, port));
        assert!(!is_free(Ipv4Addr::UNSPECIFIED, port));
        let me = format!("process {} (", std::process::id());
        assert!(
            listener_name(port).starts_with(&me),
            "{}",
            listener_name(port)
        );
    }
}
