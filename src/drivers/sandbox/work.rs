//! The observations and effects of the steps of a sandbox cluster.
//!
//! Every operation can start from any state, so it can be interrupted at any await and run again.
//! This module must not check the deadline or the lease: the caller drops the future.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::time::{Instant, sleep};

use crate::clusters::Cluster;
use crate::core::steps::StepObservation::{self, InPlace, NotInPlace};

use super::super::port;
use super::claims::{PortClaims, unless_missing};
use super::error::SandboxError;
use super::folder::{Folder, FolderState, NodeRecord};
use super::launch::{launch, port_taken};
use super::{SandboxSettings, readiness};

/// How long a node may take to end after its folder is removed: it checks every second.
const NODE_END_WITHIN: Duration = Duration::from_secs(5);
/// The time between two checks whether a node has ended or answers.
const CHECK_EVERY: Duration = Duration::from_millis(10);
/// An explanation for people who find the folder.
const ABOUT: &str = "about.txt";

pub(super) struct SandboxWork<'a> {
    pub(super) settings: &'a SandboxSettings,
    pub(super) cluster: &'a Cluster,
    pub(super) folder: Folder,
}

impl SandboxWork<'_> {
    fn port(&self) -> u16 {
        self.cluster.spec.http_port.get()
    }

    fn name(&self) -> &str {
        self.cluster.name.as_str()
    }

    /// Runs operations on the claims of ports, with the name of the cluster and its port.
    async fn claims<T: Send + 'static>(
        &self,
        work: impl FnOnce(&PortClaims, &str, u16) -> Result<T, SandboxError> + Send + 'static,
    ) -> Result<T, SandboxError> {
        let claims = PortClaims::new(&self.settings.dir);
        let (name, port) = (self.name().to_owned(), self.port());
        self.folder
            .in_time(move |_| work(&claims, &name, port))
            .await
    }

    async fn state(&self) -> Result<FolderState, SandboxError> {
        self.folder.in_time(Folder::state).await
    }

    async fn probe(&self, port: u16) -> Result<(), String> {
        readiness::probe(port, self.name(), self.settings.deadlines.probe).await
    }

    /// In place: the folder exists, and no node without a record runs in it.
    pub(super) async fn observe_folder(&self) -> Result<StepObservation, SandboxError> {
        Ok(match self.state().await? {
            FolderState::Absent => NotInPlace("its folder does not exist".into()),
            FolderState::Running(_) | FolderState::Stopped | FolderState::Dead(_) => InPlace,
            FolderState::Incomplete(why)
                if self.folder.in_time(Folder::record).await?.is_some() =>
            {
                NotInPlace(why)
            }
            FolderState::Incomplete(_) if !self.is_locked().await? => InPlace,
            FolderState::Incomplete(why) => NotInPlace(why),
        })
    }

    /// Checks that a cluster to start exists.
    pub(super) async fn require_folder(&self) -> Result<(), SandboxError> {
        match self.state().await? {
            FolderState::Absent => Err(SandboxError::NothingToStart),
            FolderState::Incomplete(why) => Err(SandboxError::NotAnswering(why)),
            FolderState::Running(_) | FolderState::Stopped | FolderState::Dead(_) => Ok(()),
        }
    }

    /// Creates the folder, after removing one that may have a node without a record.
    pub(super) async fn create_folder(&self) -> Result<(), SandboxError> {
        if matches!(self.state().await?, FolderState::Incomplete(_)) {
            self.remove_folder().await?;
        }
        self.folder.in_time(Folder::create).await
    }

    /// In place: the port is claimed, and no other process listens on it.
    pub(super) async fn observe_port(&self) -> Result<StepObservation, SandboxError> {
        if !self.claims(PortClaims::has_claimed).await? {
            return Ok(NotInPlace(format!("port {} is not claimed", self.port())));
        }
        if self.own_port().await? == Some(self.port())
            || port::is_free(Ipv4Addr::LOCALHOST, self.port())
        {
            return Ok(InPlace);
        }
        Ok(NotInPlace(format!("port {} is in use", self.port())))
    }

    /// Claims the port. It checks first that the port is free, so that a running node is not ended
    /// for a port that is in use.
    pub(super) async fn claim_port(&self) -> Result<(), SandboxError> {
        if self.own_port().await? != Some(self.port())
            && !port::is_free(Ipv4Addr::LOCALHOST, self.port())
        {
            return Err(port_taken(self.port()).await);
        }
        self.claims(PortClaims::claim).await
    }

    pub(super) async fn release_port(&self) -> Result<(), SandboxError> {
        self.claims(|claims, name, _| claims.release(name)).await
    }

    /// The port of the node, if it runs.
    async fn own_port(&self) -> Result<Option<u16>, SandboxError> {
        Ok(match self.state().await? {
            FolderState::Running(record) => Some(record.port),
            FolderState::Absent
            | FolderState::Stopped
            | FolderState::Dead(_)
            | FolderState::Incomplete(_) => None,
        })
    }

    /// In place: the node runs on its port and answers there.
    pub(super) async fn observe_process(&self) -> Result<StepObservation, SandboxError> {
        Ok(match self.state().await? {
            FolderState::Running(record) if record.port != self.port() => {
                NotInPlace(format!("its node listens on port {}", record.port))
            }
            FolderState::Running(record) => match self.probe(record.port).await {
                Ok(()) if self.is_recorded_for_this_row(&record) => InPlace,
                Ok(()) => NotInPlace("its node was recorded for another declaration".into()),
                Err(why) => NotInPlace(why),
            },
            FolderState::Absent | FolderState::Stopped => {
                NotInPlace("its node does not run".into())
            }
            FolderState::Dead(record) => {
                NotInPlace(format!("its process {} has ended", record.process.pid))
            }
            FolderState::Incomplete(why) => NotInPlace(why),
        })
    }

    /// Starts the node, unless it already runs as declared; ends one that listens on another port
    /// or does not answer.
    pub(super) async fn start_process(&self) -> Result<(), SandboxError> {
        if let FolderState::Running(record) = self.state().await? {
            if record.port == self.port() && self.probe(record.port).await.is_ok() {
                return self.keep_node(record).await;
            }
            record.process.end().await?;
        }
        launch(self.settings, self.cluster, &self.folder).await?;
        self.folder.in_time(Folder::unmark_stopped).await
    }

    pub(super) async fn end_process(&self) -> Result<(), SandboxError> {
        let record = self.folder.in_time(Folder::record).await;
        if let Some(Ok(record)) = record.unwrap_or_default() {
            record.process.end().await?;
        }
        Ok(())
    }

    fn is_recorded_for_this_row(&self, record: &NodeRecord) -> bool {
        (record.uid, record.generation) == (Some(self.cluster.uid), self.cluster.generation)
    }

    async fn keep_node(&self, record: NodeRecord) -> Result<(), SandboxError> {
        if !self.is_recorded_for_this_row(&record) {
            let record = NodeRecord {
                uid: Some(self.cluster.uid),
                generation: self.cluster.generation,
                ..record
            };
            let write = move |folder: &Folder| folder.write_record(&record);
            self.folder.in_time(write).await?;
        }
        self.folder.in_time(Folder::unmark_stopped).await
    }

    pub(super) async fn observe_ready(&self) -> Result<StepObservation, SandboxError> {
        Ok(match self.probe(self.port()).await {
            Ok(()) => InPlace,
            Err(why) => NotInPlace(why),
        })
    }

    /// Waits until the node answers, within the probe deadline.
    pub(super) async fn wait_until_ready(&self) -> Result<(), SandboxError> {
        let deadline = Instant::now() + self.settings.deadlines.probe;
        loop {
            match self.probe(self.port()).await {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() >= deadline => {
                    let within = self.settings.deadlines.probe_setting();
                    return Err(SandboxError::NotReady { why, within });
                }
                Err(_) => sleep(CHECK_EVERY).await,
            }
        }
    }

    fn about(&self) -> (PathBuf, String) {
        let (name, port) = (self.name(), self.port());
        let text = format!(
            "This folder is the sandbox cluster {name}: one process, no Kubernetes.\n\
             It answers at http://127.0.0.1:{port}/readyz; node.json names the process.\n\
             To remove it: kindler delete {name}\n"
        );
        (self.folder.path().join(ABOUT), text)
    }

    pub(super) async fn observe_about(&self) -> Result<StepObservation, SandboxError> {
        let (path, text) = self.about();
        self.folder
            .in_time(move |_| about_in_place(path, &text))
            .await
    }

    pub(super) async fn write_about(&self) -> Result<(), SandboxError> {
        let (path, text) = self.about();
        let draft = path.with_extension("new");
        // Replaces whatever exists: writing through a link would write elsewhere, and writing
        // to a pipe would block.
        let write = move |_: &Folder| {
            let write = || {
                unless_missing(fs::remove_file(&draft))?;
                File::create_new(&draft)?.write_all(text.as_bytes())?;
                fs::rename(&draft, &path)
            };
            write().map_err(|source| SandboxError::files("write", path.clone(), source))
        };
        self.folder.in_time(write).await
    }

    pub(super) async fn remove_about(&self) -> Result<(), SandboxError> {
        let (path, _) = self.about();
        let remove = move |_: &Folder| {
            unless_missing(fs::remove_file(&path))
                .map_err(|source| SandboxError::files("remove", path, source))
        };
        self.folder.in_time(remove).await
    }

    /// The part that a stop removes: in place unless the cluster is marked as stopped, or absent.
    pub(super) async fn observe_stopped(&self) -> Result<StepObservation, SandboxError> {
        Ok(match self.state().await? {
            FolderState::Absent | FolderState::Stopped => {
                NotInPlace("its node does not run".into())
            }
            FolderState::Running(_) | FolderState::Dead(_) | FolderState::Incomplete(_) => InPlace,
        })
    }

    /// Ends the node and keeps the folder.
    pub(super) async fn stop(&self) -> Result<(), SandboxError> {
        match self.state().await? {
            FolderState::Absent => return Ok(()),
            FolderState::Running(record) => record.process.end().await?,
            FolderState::Stopped | FolderState::Dead(_) | FolderState::Incomplete(_) => {}
        }
        self.folder.in_time(Folder::mark_stopped).await
    }

    /// Whether a node holds the lock on the folder.
    async fn is_locked(&self) -> Result<bool, SandboxError> {
        let Some(folder) = self.open_folder().await? else {
            return Ok(false);
        };
        Ok(!self.can_lock(&folder).await?)
    }

    async fn can_lock(&self, folder: &Arc<File>) -> Result<bool, SandboxError> {
        let folder = folder.clone();
        let lock = move |_: &Folder| Ok(flock(&folder, FlockOperation::NonBlockingLockExclusive));
        Ok(self.folder.in_time(lock).await?.is_ok())
    }

    async fn open_folder(&self) -> Result<Option<Arc<File>>, SandboxError> {
        let open = |folder: &Folder| match File::open(folder.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened
                .map(|folder| Some(Arc::new(folder)))
                .map_err(|source| {
                    SandboxError::files("open sandbox folder", folder.path().to_owned(), source)
                }),
        };
        self.folder.in_time(open).await
    }

    /// Removes the folder and waits until no node holds its lock. A node without a record can be
    /// detected only by its lock, and ends by itself when its folder is removed.
    pub(super) async fn remove_folder(&self) -> Result<(), SandboxError> {
        let Some(folder) = self.open_folder().await? else {
            return Ok(());
        };
        self.folder.in_time(Folder::remove).await?;
        let deadline = Instant::now() + NODE_END_WITHIN;
        while !self.can_lock(&folder).await? {
            if Instant::now() >= deadline {
                let path = self.folder.path().to_owned();
                return Err(SandboxError::FolderInUse { path });
            }
            sleep(CHECK_EVERY).await;
        }
        Ok(())
    }
}

fn about_in_place(path: PathBuf, text: &str) -> Result<StepObservation, SandboxError> {
    let is_file = match fs::symlink_metadata(&path) {
        // Reading a pipe in its place would block.
        Ok(found) => found.is_file(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(NotInPlace(format!("{ABOUT} does not exist")));
        }
        Err(source) => return Err(SandboxError::files("read", path, source)),
    };
    if !is_file {
        return Ok(NotInPlace(format!("{ABOUT} is not a file")));
    }
    match fs::read_to_string(&path) {
        Ok(found) if found == text => Ok(InPlace),
        Ok(_) => Ok(NotInPlace(format!("{ABOUT} has different content"))),
        Err(source) => Err(SandboxError::files("read", path, source)),
    }
}
