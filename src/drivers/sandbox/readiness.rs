//! Asks a node over HTTP whether it is ready. This module must not look at processes or files.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::duration::compact;

/// Far more than a node answers; a stranger on its port may answer anything.
const ANSWER_BYTES: u64 = 4096;

/// What the node of this name says when all is well.
pub(super) fn answer(name: &str) -> String {
    format!("ok {name}\n")
}

/// Asks once. The error completes a sentence about the cluster.
pub(super) async fn ask(port: u16, name: &str, patience: Duration) -> Result<(), String> {
    let url = format!("http://127.0.0.1:{port}/readyz");
    let got = match tokio::time::timeout(patience, get(port)).await {
        Ok(Ok(got)) => String::from_utf8_lossy(&got).into_owned(),
        Ok(Err(error)) => return Err(format!("{url} does not answer: {error}")),
        Err(_late) => {
            return Err(format!(
                "{url} does not answer within {}",
                compact(patience)
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
