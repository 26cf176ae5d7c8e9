//! Another host, as far as the network goes: a network namespace behind a virtual cable
//! that can be cut. Its processes are processes of this machine.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A network namespace with an address of its own; removed when dropped.
#[derive(Debug)]
pub struct OtherHost {
    name: String,
    /// The address of this machine on the cable.
    here: String,
    /// The address at the other end.
    there: String,
}

impl OtherHost {
    /// `None`, with a message, where this process may not create network namespaces.
    pub fn create() -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let network = format!("10.{}.{}", 192 + process / 250 % 60, process % 250);
        let host = Self {
            name: format!("kt{process}x{number}"),
            here: format!("{network}.{}", 4 * (number % 60) + 1),
            there: format!("{network}.{}", 4 * (number % 60) + 2),
        };
        if !ip(&format!("netns add {}", host.name)) {
            println!("skipped: network namespaces need root and the program `ip`");
            return None;
        }
        let Self { name, here, there } = &host;
        for change in [
            format!("link add {name} type veth peer name cable netns {name}"),
            format!("addr add {here}/30 dev {name}"),
            format!("link set {name} up"),
            format!("-n {name} addr add {there}/30 dev cable"),
            format!("-n {name} link set cable up"),
            format!("-n {name} link set lo up"),
        ] {
            assert!(ip(&change), "ip {change}");
        }
        Some(host)
    }

    /// The address of this machine, as the other host reaches it.
    pub fn address_of_this_machine(&self) -> &str {
        &self.here
    }

    /// The address of the other host.
    pub fn address(&self) -> &str {
        &self.there
    }

    /// Cuts the cable: from now on nothing arrives in either direction, without an error.
    pub fn cut_off(&self) {
        let change = format!("-n {} link set cable down", self.name);
        assert!(ip(&change), "ip {change}");
    }

    /// A command that runs its arguments on the other host. `ip netns exec` would hide the cgroups.
    pub fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name));
        command
    }
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        // With it the cable goes, when the last process in it has ended.
        ip(&format!("link delete {}", self.name));
        ip(&format!("netns delete {}", self.name));
    }
}

fn ip(arguments: &str) -> bool {
    Command::new("ip")
        .args(arguments.split_whitespace())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
