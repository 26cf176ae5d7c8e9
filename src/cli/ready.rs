//! Checks whether the daemon on this host is ready, for health checks of
//! containers and for scripts: an image may have no HTTP client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::CliError;
use super::outcome::Exit;
use super::screen::write_out;

/// Deadline; the daemon responds from memory.
const RESPONSE_WITHIN: Duration = Duration::from_secs(3);
/// Maximum size of the response, in bytes.
const MAX_RESPONSE: u64 = 64 * 1024;

/// Exits with 0 if the daemon at this address is ready, otherwise with 1 and the
/// reasons.
pub(super) async fn ready(listen: SocketAddr) -> Result<Exit, CliError> {
    let address = connect_address(listen);
    let answer = match timeout(RESPONSE_WITHIN, request(address)).await {
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

/// The address to connect to: loopback for an unspecified address.
fn connect_address(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn request(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_means_loopback() {
        for (listen, expected) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:80", "[::1]:80"),
            ("10.1.2.3:8080", "10.1.2.3:8080"),
        ] {
            assert_eq!(
                connect_address(listen.parse().unwrap()),
                expected.parse().unwrap()
            );
        }
    }
}
