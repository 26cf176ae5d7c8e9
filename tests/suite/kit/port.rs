//! Ports for servers that are started with a port number.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that no other test picks while this value exists.
#[derive(Debug)]
pub struct ClaimedPort {
    /// Its number.
    pub number: u16,
    /// Holds the claim: the UDP port of the same number, which is not used otherwise.
    _twin: UdpSocket,
}

/// Claims a port below the kernel's ephemeral range, so that no connection gets it by
/// chance. Other test processes see the claim too.
pub fn claim_port() -> ClaimedPort {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 8000).unwrap();
    loop {
        let offset = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2000;
        let candidate = (Ipv4Addr::LOCALHOST, 20_000 + offset);
        if let Ok(twin) = UdpSocket::bind(candidate)
            && TcpListener::bind(candidate).is_ok()
        {
            return ClaimedPort {
                number: candidate.1,
                _twin: twin,
            };
        }
    }
}
