//! A state folder whose files do not answer, as on a lost network mount.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::rig::{STEPS_TIMEOUT, StepsRig};
use crate::kit::{Sql, claim_port};

/// Takes a lease on a file: the kernel keeps everybody waiting who opens it, up to
/// `/proc/sys/fs/lease-break-time`, which is 45 s.
const TAKE_LEASE: &str = r#"$SIG{IO} = "IGNORE"; $| = 1;
    open(F, "+<", $ARGV[0]) or die $!;
    until (fcntl(F, 1024, 1)) { select(undef, undef, undef, 0.01) }
    print "held\n"; <STDIN>;"#;

/// A file that nobody can open while this exists.
struct HungFile(Child);

impl HungFile {
    fn new(path: &Path) -> Self {
        let mut child = Command::new("perl")
            .args(["-e", TAKE_LEASE])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("perl");
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }
}

impl Drop for HungFile {
    fn drop(&mut self) {
        let _ended_anyway = self.0.kill();
        let _status = self.0.wait();
    }
}

#[tokio::test]
async fn a_hung_sandbox_folder_blocks_no_worker_and_is_named() {
    let rig = StepsRig::new().await;
    let mut daemon = rig.builder().start().await;
    // More than the daemon has threads.
    let ports: Vec<_> = (0..6).map(|_| claim_port()).collect();
    for (n, port) in ports.iter().enumerate() {
        let port = port.number;
        rig.sql
            .run(&format!(
                "INSERT INTO clusters (name, provider, http_port) VALUES ('c{n}', 'k3d', {port})"
            ))
            .await;
    }
    let running = "SELECT count(*) FROM clusters WHERE actual_state = 'running'";
    rig.sql.wait_number(running, 6).await;

    let record = |n| rig.host.state_dir().join(format!("sandbox/c{n}/node.json"));
    let hung: Vec<HungFile> = (0..6).map(|n| HungFile::new(&record(n))).collect();
    let named = "SELECT count(*) FROM clusters WHERE status_message LIKE '%did not answer within%'";
    rig.sql.wait_number(named, 6).await;
    // Each row waits for its probe, and nothing else waits.
    for _ in 0..20 {
        let answer = tokio::time::timeout(Duration::from_secs(2), daemon.get("/healthz")).await;
        assert_eq!(answer.expect("an answer in time").unwrap().0, 200);
    }
    assert_eq!(rig.sql.number(running).await, 6, "unknown is not ill");

    drop(hung);
    rig.sql.wait_number(named, 0).await;

    let _again: Vec<HungFile> = (0..6).map(|n| HungFile::new(&record(n))).collect();
    rig.sql.wait_number(named, 6).await;
    daemon.signal(Signal::TERM);
    let giving_up = Instant::now() + STEPS_TIMEOUT;
    while !daemon.has_ended() {
        assert!(Instant::now() < giving_up, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
