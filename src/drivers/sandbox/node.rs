//! The process of a sandbox cluster: `kindler sandbox-node`.
//!
//! It listens on one port of 127.0.0.1, answers `/readyz`, and runs until it is killed or its
//! folder is removed. It is synchronous and small, because there may be hundreds. It must not use
//! the database or the daemon.
//!
//! It holds a lock on its folder while it runs: there is never a second node in a folder, and the
//! process that removes the folder can wait for the end of the node.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::cause::chain;

use super::folder::{Folder, NodeRecord};
use super::process::ProcessIdentity;
use super::readiness;

/// The line on stdout that reports that the node is ready.
pub(super) const READY: &str = "ready";
/// The exit code if another process listens on the port.
pub(super) const PORT_TAKEN: u8 = 3;

/// How often the node checks whether its folder still exists.
const CHECK_EVERY: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// The limit of open connections; further ones are closed without an answer.
const MAX_CONNECTIONS: usize = 32;
/// The deadline of one connection.
const CONNECTION_WITHIN: Duration = Duration::from_secs(2);
/// The longest request, in bytes.
const REQUEST_BYTES: usize = 4096;
/// The stack of a connection's thread, in bytes.
const STACK: usize = 64 * 1024;

const ABOUT: &str = "A sandbox cluster of Kindler: one process that answers /readyz. For demos, \
                     teaching, tests and benchmarks; it is not Kubernetes.";

/// Runs a node with the arguments after `sandbox-node`. Only the sandbox driver calls it: it reads
/// the first line of stdout, then closes it; stderr is the node's log.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(args) = NodeArgs::parse(args) else {
        let _reader_may_be_gone = writeln!(
            io::stderr(),
            "kindler sandbox-node is started by the daemon: --name NAME --port PORT --dir DIR"
        );
        return ExitCode::from(2);
    };
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _reader_may_be_gone = writeln!(io::stdout(), "{}", error.text);
            let _reader_may_be_gone = writeln!(io::stderr(), "{}", error.text);
            ExitCode::from(error.code)
        }
    }
}

/// The arguments of a node.
struct NodeArgs {
    name: String,
    port: u16,
    dir: PathBuf,
    provider: String,
    uid: Option<Uuid>,
    generation: i64,
}

impl NodeArgs {
    fn parse(args: impl Iterator<Item = OsString>) -> Option<Self> {
        let args: Vec<OsString> = args.collect();
        let find = |flag: &str| {
            let mut pairs = args.chunks_exact(2);
            pairs
                .find(|pair| pair[0] == flag)
                .map(|pair| pair[1].clone())
        };
        let text = |flag: &str| find(flag)?.into_string().ok();
        Some(Self {
            name: text("--name")?,
            port: text("--port")?.parse().ok()?,
            dir: find("--dir")?.into(),
            provider: text("--provider").unwrap_or_default(),
            uid: text("--uid").and_then(|text| text.parse().ok()),
            generation: text("--generation").map_or(Some(0), |text| text.parse().ok())?,
        })
    }
}

struct NodeError {
    code: u8,
    text: String,
}

fn failed(operation: String) -> impl FnOnce(io::Error) -> NodeError {
    move |error| NodeError {
        code: 1,
        text: format!("cannot {operation}: {error}"),
    }
}

fn serve(args: &NodeArgs) -> Result<(), NodeError> {
    // A Ctrl-C in the daemon's terminal must not reach the clusters. Fails only for the leader of a
    // session, which has its own already.
    let _leads_already = rustix::process::setsid();
    let dir = args.dir.display();
    let folder = File::open(&args.dir).map_err(failed(format!("open folder {dir}")))?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive).map_err(|_held| NodeError {
        code: 1,
        text: format!("another node runs in {dir}"),
    })?;
    let listener = listen(args.port)?;
    record(args, &folder)?;
    // The cluster runs even if the driver has ended.
    let _reader_may_be_gone = writeln!(io::stdout(), "{READY}").and_then(|()| io::stdout().flush());
    let _stays_open = rustix::stdio::dup2_stdout(rustix::stdio::stderr());
    answer_all(args, &listener, &folder);
    let _reader_may_be_gone = writeln!(io::stderr(), "folder {dir} was removed");
    Ok(())
}

fn listen(port: u16) -> Result<TcpListener, NodeError> {
    let operation = || format!("listen on 127.0.0.1:{port}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
        let taken = error.kind() == io::ErrorKind::AddrInUse;
        NodeError {
            code: if taken { PORT_TAKEN } else { 1 },
            ..failed(operation())(error)
        }
    })?;
    listener
        .set_nonblocking(true)
        .map_err(failed(operation()))?;
    Ok(listener)
}

/// Writes the record of the node. Through the open folder and not its path, because the path may
/// now be another folder.
fn record(args: &NodeArgs, folder: &File) -> Result<(), NodeError> {
    let folder = Folder::new(format!("/proc/self/fd/{}", folder.as_raw_fd()).into());
    let unrecorded = |why: String| NodeError {
        code: 1,
        text: format!("cannot record the node in {}: {why}", args.dir.display()),
    };
    let process = ProcessIdentity::own();
    let process = process.ok_or_else(|| unrecorded("/proc cannot be read".to_owned()))?;
    let before = folder.record().ok().flatten().and_then(Result::ok);
    let record = NodeRecord {
        process,
        port: args.port,
        provider: args.provider.clone(),
        uid: args.uid,
        generation: args.generation,
        created_at: before.map_or_else(Timestamp::now, |before| before.created_at),
        about: ABOUT.to_owned(),
    };
    let written = folder.write_record(&record);
    written.map_err(|error| unrecorded(chain(&error)))
}

/// Answers requests until the folder is removed.
fn answer_all(args: &NodeArgs, listener: &TcpListener, folder: &File) {
    let name: Arc<str> = args.name.as_str().into();
    // Each open connection has a clone, so the reference count is the number of connections.
    while is_own_folder(args, folder) {
        let mut wait = [PollFd::new(listener, PollFlags::IN)];
        let _interrupted = poll(&mut wait, Some(&CHECK_EVERY));
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        if Arc::strong_count(&name) > MAX_CONNECTIONS {
            continue;
        }
        let name = Arc::clone(&name);
        let thread = thread::Builder::new().stack_size(STACK);
        // If no thread can start, the connection is closed without an answer.
        let _closed = thread.spawn(move || answer(stream, &name));
    }
}

/// Whether the node's path is still its own folder; true if that cannot be determined.
fn is_own_folder(args: &NodeArgs, folder: &File) -> bool {
    let identity = |of: fs::Metadata| (of.dev(), of.ino());
    match (fs::metadata(&args.dir), folder.metadata()) {
        (Ok(now), Ok(own)) => identity(now) == identity(own),
        (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
        (Ok(_), Err(_)) => true,
    }
}

fn answer(mut stream: TcpStream, name: &str) {
    let Some(request) = read_request(&mut stream) else {
        return;
    };
    let (status, body) = if request.starts_with(b"GET /readyz ") {
        ("200 OK", readiness::answer(name))
    } else {
        (
            "404 Not Found",
            "a sandbox cluster answers /readyz only\n".to_owned(),
        )
    };
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status}\r\nServer: kindler-sandbox\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let _gone = stream.write_all(response.as_bytes());
}

/// Reads up to the empty line after the headers.
fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let until = Instant::now() + CONNECTION_WITHIN;
    stream.set_write_timeout(Some(CONNECTION_WITHIN)).ok()?;
    let mut request = Vec::new();
    let mut bytes = [0; 1024];
    while request.len() < REQUEST_BYTES {
        let left = until.checked_duration_since(Instant::now())?;
        // A timeout of zero would be an error.
        stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
            .ok()?;
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return None,
            Ok(read) => request.extend_from_slice(&bytes[..read]),
        }
        if request.windows(4).any(|end| end == b"\r\n\r\n") {
            return Some(request);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parsed_or_rejected() {
        let parse = |line: &str| NodeArgs::parse(line.split(' ').map(OsString::from));
        let args = parse("--name dev --port 18090 --dir /x --generation 7").unwrap();
        assert_eq!(
            (args.name.as_str(), args.port, args.generation),
            ("dev", 18090, 7)
        );
        assert_eq!(args.uid, None);
        let uid = Uuid::from_u128(7);
        let args = parse(&format!("--name dev --port 18090 --dir /x --uid {uid}")).unwrap();
        assert_eq!(args.uid, Some(uid));
        for bad in [
            "",
            "--name dev",
            "--name dev --port x --dir /x",
            "--name dev --port 70000 --dir /",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
