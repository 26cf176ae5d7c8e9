//! The process that is a sandbox cluster: `kindler sandbox-node`.
//!
//! It listens on one port of 127.0.0.1, answers `/readyz`, and lives until it is killed or its
//! folder is removed. It is synchronous and small on purpose, since there may be hundreds. It is
//! no Kubernetes, must not talk to the database, and must not need the daemon.
//!
//! It holds a lock on its folder for life: there is never a second node in one folder, and
//! the process that removed the folder can wait for the node to leave.

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

use super::folder::{Folder, Record};
use super::process::ProcessIdentity;
use super::readiness;

/// The word on stdout that all is well.
pub(super) const READY: &str = "ready";
/// The exit code for a port that another process listens on.
pub(super) const PORT_TAKEN: u8 = 3;

/// How often the node looks whether its folder is still there.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// How many connections are answered at once; more are closed unanswered.
const CONNECTIONS: usize = 32;
/// How long one connection may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much of a request is read, in bytes.
const REQUEST_BYTES: usize = 4096;
/// The stack of a connection's thread, in bytes.
const STACK: usize = 64 * 1024;

const ABOUT: &str = "A sandbox cluster of Kindler: one process that answers /readyz. For trying, \
                     teaching, tests and benchmarks; it is not Kubernetes.";

/// Runs a node with the arguments after `sandbox-node`. Written for the sandbox driver, not for
/// people: stdout is read up to the first line, then closed; stderr is the node's log.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(errand) = Errand::parse(args) else {
        let _reader_may_be_gone = writeln!(
            io::stderr(),
            "kindler sandbox-node is started by the daemon: --name NAME --port PORT --dir DIR"
        );
        return ExitCode::from(2);
    };
    match serve(&errand) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _reader_may_be_gone = writeln!(io::stdout(), "{}", failure.text);
            let _reader_may_be_gone = writeln!(io::stderr(), "{}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// What the driver asks for on the command line.
struct Errand {
    name: String,
    port: u16,
    dir: PathBuf,
    provider: String,
    uid: Option<Uuid>,
    generation: i64,
}

impl Errand {
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

struct Failure {
    code: u8,
    text: String,
}

fn failed(operation: String) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure {
        code: 1,
        text: format!("cannot {operation}: {error}"),
    }
}

fn serve(errand: &Errand) -> Result<(), Failure> {
    // A Ctrl-C in the daemon's terminal is not meant for the clusters. Fails only for the leader
    // of a session, who has one already.
    let _leads_already = rustix::process::setsid();
    let dir = errand.dir.display();
    let home = File::open(&errand.dir).map_err(failed(format!("open folder {dir}")))?;
    flock(&home, FlockOperation::NonBlockingLockExclusive).map_err(|_held| Failure {
        code: 1,
        text: format!("another node lives in {dir}"),
    })?;
    let listener = listen(errand.port)?;
    record(errand, &home)?;
    // The driver may be gone by now; the cluster is there all the same.
    let _reader_may_be_gone = writeln!(io::stdout(), "{READY}").and_then(|()| io::stdout().flush());
    let _stays_open = rustix::stdio::dup2_stdout(rustix::stdio::stderr());
    answer_all(errand, &listener, &home);
    let _reader_may_be_gone = writeln!(io::stderr(), "folder {dir} was removed");
    Ok(())
}

fn listen(port: u16) -> Result<TcpListener, Failure> {
    let operation = || format!("listen on 127.0.0.1:{port}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
        let taken = error.kind() == io::ErrorKind::AddrInUse;
        Failure {
            code: if taken { PORT_TAKEN } else { 1 },
            ..failed(operation())(error)
        }
    })?;
    listener
        .set_nonblocking(true)
        .map_err(failed(operation()))?;
    Ok(listener)
}

/// Writes down who the node is. By way of the open folder, not of its path, where by now another
/// folder may be.
fn record(errand: &Errand, home: &File) -> Result<(), Failure> {
    let folder = Folder::new(format!("/proc/self/fd/{}", home.as_raw_fd()).into());
    let unrecorded = |why: String| Failure {
        code: 1,
        text: format!("cannot record the node in {}: {why}", errand.dir.display()),
    };
    let process = ProcessIdentity::own();
    let process = process.ok_or_else(|| unrecorded("/proc cannot be read".to_owned()))?;
    let before = folder.record().ok().flatten().and_then(Result::ok);
    let record = Record {
        process,
        port: errand.port,
        provider: errand.provider.clone(),
        uid: errand.uid,
        generation: errand.generation,
        created_at: before.map_or_else(Timestamp::now, |before| before.created_at),
        about: ABOUT.to_owned(),
    };
    let written = folder.write_record(&record);
    written.map_err(|error| unrecorded(chain(&error)))
}

/// Answers until the folder is gone.
fn answer_all(errand: &Errand, listener: &TcpListener, home: &File) {
    let name: Arc<str> = errand.name.as_str().into();
    // Its count says how many connections are open: each holds one clone.
    while still_home(errand, home) {
        let mut wait = [PollFd::new(listener, PollFlags::IN)];
        let _interrupted = poll(&mut wait, Some(&LOOK_EVERY));
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        if Arc::strong_count(&name) > CONNECTIONS {
            continue;
        }
        let name = Arc::clone(&name);
        let thread = thread::Builder::new().stack_size(STACK);
        // Without a thread the connection is closed unanswered, which is true enough.
        let _closed = thread.spawn(move || answer(stream, &name));
    }
}

/// Whether the node's path still leads to its own folder. Doubt is no reason to leave.
fn still_home(errand: &Errand, home: &File) -> bool {
    let identity = |of: fs::Metadata| (of.dev(), of.ino());
    match (fs::metadata(&errand.dir), home.metadata()) {
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
    let until = Instant::now() + PATIENCE;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let mut request = Vec::new();
    let mut bytes = [0; 1024];
    while request.len() < REQUEST_BYTES {
        let left = until.checked_duration_since(Instant::now())?;
        // A timeout of zero would be none.
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
    fn the_command_line_is_read_or_refused() {
        let parse = |line: &str| Errand::parse(line.split(' ').map(OsString::from));
        let errand = parse("--name dev --port 18090 --dir /x --generation 7").unwrap();
        assert_eq!(
            (errand.name.as_str(), errand.port, errand.generation),
            ("dev", 18090, 7)
        );
        assert_eq!(errand.uid, None);
        let uid = Uuid::from_u128(7);
        let errand = parse(&format!("--name dev --port 18090 --dir /x --uid {uid}")).unwrap();
        assert_eq!(errand.uid, Some(uid));
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
