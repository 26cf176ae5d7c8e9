//! Which process of the server a connection was assigned when it began.
//!
//! The server names it in the key for cancel requests, which the client keeps to itself.
//! So this module lets the client write a cancel request into memory, and reads it there.
//! A pooler makes up a key of its own.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Client};

/// The process in the key of this connection; 0 if the server sent no key.
pub(super) async fn assigned_process(client: &Client) -> i32 {
    process_of_token(&client.cancel_token()).await
}

/// The same of the connection that this token is for.
pub(super) async fn process_of_token(cancel: &CancelToken) -> i32 {
    let mut written = Memory::default();
    let cancel = cancel.clone();
    if cancel.cancel_query_raw(&mut written, Plain).await.is_err() {
        return 0;
    }
    process_of(&written.0).unwrap_or_default()
}

/// A cancel request is the last 16 bytes: length, code, process and key.
fn process_of(written: &[u8]) -> Option<i32> {
    let request = written.last_chunk::<16>()?;
    let process = request[8..].first_chunk::<4>()?;
    Some(i32::from_be_bytes(*process))
}

/// Keeps what is written, and agrees to TLS.
#[derive(Debug, Default)]
struct Memory(Vec<u8>);

impl AsyncRead for Memory {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buffer.put_slice(&b"S"[..buffer.remaining().min(1)]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for &mut Memory {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// In place of TLS, which nothing in memory needs.
struct Plain;

impl<'a> TlsConnect<&'a mut Memory> for Plain {
    type Stream = &'a mut Memory;
    type Error = io::Error;
    type Future = Ready<io::Result<&'a mut Memory>>;

    fn connect(self, stream: &'a mut Memory) -> Self::Future {
        ready(Ok(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::process_of;

    #[test]
    fn the_process_is_read_from_a_cancel_request() {
        let request = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0x30, 0x39, 1, 2, 3, 4];
        assert_eq!(process_of(&request), Some(12_345));
        // After a request for TLS.
        let after_tls = [&[0, 0, 0, 8, 4, 210, 22, 47], &request[..]].concat();
        assert_eq!(process_of(&after_tls), Some(12_345));
        assert_eq!(process_of(&request[..15]), None);
    }
}
