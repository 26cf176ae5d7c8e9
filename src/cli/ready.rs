//! Asks the daemon of this host whether it is ready: for a container's health
//! check and for scripts, where there may be no other program to ask with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::CliError;
use super::outcome::Exit;
use super::screen::write_out;

/// The daemon answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// More than it ever says.
const LONGEST: u64 = 64 * 1024;

/// 0 when the daemon that listens there is ready, 1 with its reasons when not.
pub(super) async fn ready(listen: SocketAddr) -> Result<Exit, CliError> {
    let address = within_reach(listen);
    let answer = match timeout(ANSWER_WITHIN, ask(address)).await {
        Ok(answer) => answer.map_err(|source| CliError::NoDaemon { address, source })?,
        Err(late) => {
            let source = late.into();
            return Err(CliError::NoDaemon { address, source });
        }
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let is_ready = head.split(' ').nth(1) == Some("200");
    write_out(body)?;
    Ok(if is_ready { Exit::Done } else { Exit::Failed })
}

/// An address that stands for all of a host is reached at the host itself.
fn within_reach(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_a_host_are_asked_at_the_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:80", "[::1]:80"),
            ("10.1.2.3:8080", "10.1.2.3:8080"),
        ] {
            assert_eq!(
                within_reach(listen.parse().unwrap()),
                asked.parse().unwrap()
            );
        }
    }
}
