//! The HTTP probe of a node. This module must not use processes or files.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::duration::compact;

/// The limit of an answer: another program on the port may answer anything.
const ANSWER_BYTES: u64 = 4096;

/// The answer of a healthy node of this name.
pub(super) fn answer(name: &str) -> String {
    format!("ok {name}\n")
}

/// Probes a node once. The error says why the cluster is unhealthy.
pub(super) async fn probe(port: u16, name: &str, deadline: Duration) -> Result<(), String> {
    let url = format!("http://127.0.0.1:{port}/readyz");
    let got = match tokio::time::timeout(deadline, get(port)).await {
        Ok(Ok(got)) => String::from_utf8_lossy(&got).into_owned(),
        Ok(Err(error)) => return Err(format!("{url} does not answer: {error}")),
        Err(_late) => {
            return Err(format!(
                "{url} does not answer within KINDLER_PROBE_DEADLINE={}",
                compact(deadline)
            ));
        }
    };
    let status = got.lines().next().unwrap_or_default();
    let body = got.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    if status.split(' ').nth(1) != Some("200") {
        Err(format!("{url} answers {status:?}"))
    } else if body != answer(name) {
        Err(format!("{url} is answered by another program"))
    } else {
        Ok(())
    }
}

async fn get(port: u16) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut got = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut got).await?;
    Ok(got)
}
