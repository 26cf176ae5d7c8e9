//! The bare listener, the baseline for the daemon: the least that can react to a
//! commit. A separate process with one thread and one connection; at each notification
//! it claims with one UPDATE and prints the time of the answer.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use kindler::core::database::Database;
use tokio::sync::mpsc::unbounded_channel;
use tokio_postgres::AsyncMessage;

/// The argument that makes this program the listener.
pub const ROLE: &str = "bare-listener";

/// Its table: an insert notifies, as with the real one.
pub const SCHEMA: &str = "
    CREATE TABLE bare (name text PRIMARY KEY, owner text);
    CREATE FUNCTION bare_notify() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_notify('bare', NEW.name); RETURN NULL; END$$;
    CREATE TRIGGER bare_notify AFTER INSERT ON bare FOR EACH ROW EXECUTE FUNCTION bare_notify()";

const CLAIM: &str = "UPDATE bare SET owner = 'me' WHERE name = $1 AND owner IS NULL RETURNING name";

/// The main function of the listener's process.
pub fn main(url: &str) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("start the runtime")
        .block_on(listen(url));
}

async fn listen(url: &str) {
    let (sender, mut receiver) = unbounded_channel();
    let database = Database::parse(url).expect("a valid URL");
    let (client, _connection) = database
        .connect_listening(move |message| {
            if let AsyncMessage::Notification(notification) = message {
                let _ = sender.send(notification.payload().to_owned());
            }
        })
        .await
        .expect("connect");
    let claim = client.prepare(CLAIM).await.expect("prepare the claim");
    client.batch_execute("LISTEN bare").await.expect("listen");
    println!("listening");
    while let Some(name) = receiver.recv().await {
        let claimed = client.query_opt(&claim, &[&name]).await.expect("claim");
        let at = micros(SystemTime::now());
        assert!(claimed.is_some(), "only this listener claims");
        println!("{at}");
    }
}

/// The parent's handle of the listener; the process ends when dropped.
pub struct BareListener {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl BareListener {
    /// Starts one and waits until it listens.
    pub fn start(url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([ROLE, url])
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the bare listener");
        let output = child.stdout.take().expect("a piped output");
        let mut lines = BufReader::new(output).lines();
        let first = lines.next().expect("a first line").expect("read it");
        assert_eq!(first, "listening");
        Self { child, lines }
    }

    /// Waits for its next claim: the time of the answer.
    pub fn claimed_at(&mut self) -> i64 {
        let line = self.lines.next().expect("the bare listener runs");
        line.expect("read a line").parse().expect("a time")
    }
}

impl Drop for BareListener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Microseconds of the system clock, which all processes share.
pub fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("before the year 292277")
}
