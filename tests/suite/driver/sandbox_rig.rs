//! The sandbox driver in its own folder.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use kindler::clusters::Cluster;
use kindler::command::LogDir;
use kindler::drivers::sandbox::{NodeRecord, SandboxDriver, SandboxSettings};
use kindler::drivers::{Deadlines, Driver};
use rustix::process::Signal;

use super::rig::{DriverRig, deadlines, write_executable};
use crate::command::rig::{Token, signal};
use crate::kit::run_folder;

pub struct SandboxRig {
    /// In the folder of the test run: its removal ends every node that is left.
    pub dir: PathBuf,
    token: Token,
}

impl SandboxRig {
    pub fn settings(&self) -> SandboxSettings {
        SandboxSettings {
            node_program: env!("CARGO_BIN_EXE_kindler").into(),
            deadlines: deadlines(),
            ..SandboxSettings::new(self.dir.join("sandbox"), self.logs())
        }
    }

    pub fn logs(&self) -> LogDir {
        LogDir::new(self.dir.join("logs"))
    }

    /// The folder of one cluster.
    pub fn folder(&self, cluster: &Cluster) -> PathBuf {
        self.dir.join("sandbox").join(cluster.name.as_str())
    }

    pub fn record(&self, cluster: &Cluster) -> NodeRecord {
        self.try_record(cluster).expect("a record")
    }

    pub fn write_record(&self, cluster: &Cluster, record: &NodeRecord) {
        let text = serde_json::to_vec(record).unwrap();
        fs::write(self.folder(cluster).join("node.json"), text).unwrap();
    }

    fn try_record(&self, cluster: &Cluster) -> Option<NodeRecord> {
        let text = fs::read(self.folder(cluster).join("node.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

impl DriverRig for SandboxRig {
    const KEEPS_CLUSTERS_OF_ANOTHER: bool = true;

    fn new() -> Self {
        static RIGS: AtomicU32 = AtomicU32::new(0);
        let rig = RIGS.fetch_add(1, Ordering::Relaxed);
        let dir = run_folder().join(format!("sandbox-{rig}"));
        fs::create_dir(&dir).unwrap();
        Self {
            dir,
            token: Token::new(),
        }
    }

    fn driver(&self) -> Box<dyn Driver> {
        Box::new(SandboxDriver::new(self.settings()))
    }

    fn hanging_driver(&self, deadlines: Deadlines) -> Box<dyn Driver> {
        let node_program = self.dir.join("hang");
        let text = format!("#!/bin/sh\nexec sleep {}\n", self.token.0);
        write_executable(&node_program, &text);
        Box::new(SandboxDriver::new(SandboxSettings {
            node_program,
            deadlines,
            ..self.settings()
        }))
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn kill(&self, cluster: &Cluster) {
        signal(self.record(cluster).process.pid, Signal::KILL);
    }

    fn applied_port(&self, cluster: &Cluster) -> Option<u16> {
        Some(self.try_record(cluster)?.port)
    }
}

impl Drop for SandboxRig {
    /// The nodes end when their folders are removed.
    fn drop(&mut self) {
        let _ended_anyway = fs::remove_dir_all(&self.dir);
    }
}
