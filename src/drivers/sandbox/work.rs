//! What each step of one sandbox cluster looks at, does and takes away.
//!
//! Everything starts from whatever is there, so it can be cut at any await and done again. This
//! module must not watch the clock or the lease: the caller that drops the future does.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::time::{Instant, sleep};

use crate::clusters::Cluster;
use crate::core::steps::StepObservation::{self, InPlace, NotInPlace};

use super::claims::{PortClaims, unless_missing};
use super::error::SandboxError;
use super::folder::{Folder, Record, Sight};
use super::launch::{launch, taken};
use super::{SandboxSettings, port, readiness};

/// How long a node that finds its folder removed may take to leave: it looks every second.
const LEAVING: Duration = Duration::from_secs(5);
/// How often it is looked whether it has, or whether a node answers.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// For people who find the folder.
const ABOUT: &str = "about.txt";

pub(super) struct Work<'a> {
    pub(super) settings: &'a SandboxSettings,
    pub(super) cluster: &'a Cluster,
    pub(super) folder: Folder,
}

impl Work<'_> {
    fn port(&self) -> u16 {
        self.cluster.spec.http_port.get()
    }

    fn name(&self) -> &str {
        self.cluster.name.as_str()
    }

    fn claims(&self) -> PortClaims {
        PortClaims::new(&self.settings.dir)
    }

    async fn answers(&self, port: u16) -> Result<(), String> {
        readiness::ask(port, self.name(), self.settings.deadlines.probe).await
    }

    /// The folder is there, and no unknown node runs in it.
    pub(super) fn see_folder(&self) -> Result<StepObservation, SandboxError> {
        Ok(match self.folder.look()? {
            Sight::Absent => NotInPlace("its folder is not there".into()),
            Sight::Running(_) | Sight::Stopped | Sight::Dead(_) => InPlace,
            Sight::HalfMade(why) if self.folder.record()?.is_some() => NotInPlace(why),
            Sight::HalfMade(_) if self.is_free()? => InPlace,
            Sight::HalfMade(why) => NotInPlace(why),
        })
    }

    /// What is to be started was made before.
    pub(super) fn expect_folder(&self) -> Result<(), SandboxError> {
        match self.folder.look()? {
            Sight::Absent => Err(SandboxError::NothingToStart),
            Sight::HalfMade(why) => Err(SandboxError::NotAnswering(why)),
            Sight::Running(_) | Sight::Stopped | Sight::Dead(_) => Ok(()),
        }
    }

    /// Leaves a folder in which no unknown node lives.
    pub(super) async fn make_folder(&self) -> Result<(), SandboxError> {
        if matches!(self.folder.look()?, Sight::HalfMade(_)) {
            self.vacate().await?;
        }
        self.folder.create()
    }

    /// The port is claimed, and no other process listens on it.
    pub(super) fn see_port(&self) -> Result<StepObservation, SandboxError> {
        if !self.claims().holds(self.name(), self.port())? {
            return Ok(NotInPlace(format!("port {} is not claimed", self.port())));
        }
        if self.own_port()? == Some(self.port()) || port::is_free(self.port()) {
            return Ok(InPlace);
        }
        Ok(NotInPlace(format!("port {} is in use", self.port())))
    }

    /// Claims the port: checked before anything is ended for it, so that a taken port
    /// does not cost a cluster that runs.
    pub(super) async fn claim_port(&self) -> Result<(), SandboxError> {
        if self.own_port()? != Some(self.port()) && !port::is_free(self.port()) {
            return Err(taken(self.port()).await);
        }
        self.claims().claim(self.name(), self.port())
    }

    pub(super) fn give_port_back(&self) -> Result<(), SandboxError> {
        self.claims().give_back(self.name())
    }

    /// The port of this cluster's node, if it runs.
    fn own_port(&self) -> Result<Option<u16>, SandboxError> {
        Ok(match self.folder.look()? {
            Sight::Running(record) => Some(record.port),
            Sight::Absent | Sight::Stopped | Sight::Dead(_) | Sight::HalfMade(_) => None,
        })
    }

    /// The node runs on its port, and answers there.
    pub(super) async fn see_process(&self) -> Result<StepObservation, SandboxError> {
        Ok(match self.folder.look()? {
            Sight::Running(record) if record.port != self.port() => {
                NotInPlace(format!("its node listens on port {}", record.port))
            }
            Sight::Running(record) => match self.answers(record.port).await {
                Ok(()) if self.is_recorded_for_this_row(&record) => InPlace,
                Ok(()) => NotInPlace("its node was recorded for another declaration".into()),
                Err(why) => NotInPlace(why),
            },
            Sight::Absent | Sight::Stopped => NotInPlace("its node does not run".into()),
            Sight::Dead(record) => {
                NotInPlace(format!("its process {} is gone", record.process.pid))
            }
            Sight::HalfMade(why) => NotInPlace(why),
        })
    }

    /// Starts the node, unless it runs already as declared; ends one that listens on
    /// another port or hangs.
    pub(super) async fn run_process(&self) -> Result<(), SandboxError> {
        if let Sight::Running(record) = self.folder.look()? {
            if record.port == self.port() && self.answers(record.port).await.is_ok() {
                return self.keep(record);
            }
            record.process.end().await?;
        }
        launch(self.settings, self.cluster, &self.folder).await?;
        self.folder.unmark_stopped()
    }

    pub(super) async fn end_process(&self) -> Result<(), SandboxError> {
        if let Some(Ok(record)) = self.folder.record().unwrap_or_default() {
            record.process.end().await?;
        }
        Ok(())
    }

    fn is_recorded_for_this_row(&self, record: &Record) -> bool {
        (record.uid, record.generation) == (Some(self.cluster.uid), self.cluster.generation)
    }

    fn keep(&self, record: Record) -> Result<(), SandboxError> {
        if !self.is_recorded_for_this_row(&record) {
            self.folder.write_record(&Record {
                uid: Some(self.cluster.uid),
                generation: self.cluster.generation,
                ..record
            })?;
        }
        self.folder.unmark_stopped()
    }

    pub(super) async fn see_ready(&self) -> Result<StepObservation, SandboxError> {
        Ok(match self.answers(self.port()).await {
            Ok(()) => InPlace,
            Err(why) => NotInPlace(why),
        })
    }

    /// Waits until the node answers, for as long as one look may take.
    pub(super) async fn wait_until_ready(&self) -> Result<(), SandboxError> {
        let giving_up = Instant::now() + self.settings.deadlines.probe;
        loop {
            match self.answers(self.port()).await {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() >= giving_up => {
                    return Err(SandboxError::NotAnswering(why));
                }
                Err(_) => sleep(LOOK_AGAIN).await,
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

    pub(super) fn see_about(&self) -> Result<StepObservation, SandboxError> {
        let (path, text) = self.about();
        let there = match fs::symlink_metadata(&path) {
            // Read only what ends: a pipe in its place would hold us up.
            Ok(there) => there.is_file(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(NotInPlace(format!("{ABOUT} is not there")));
            }
            Err(source) => return Err(SandboxError::files("read", path, source)),
        };
        if !there {
            return Ok(NotInPlace(format!("{ABOUT} is not a file")));
        }
        match fs::read_to_string(&path) {
            Ok(found) if found == text => Ok(InPlace),
            Ok(_) => Ok(NotInPlace(format!("{ABOUT} says something else"))),
            Err(source) => Err(SandboxError::files("read", path, source)),
        }
    }

    pub(super) fn write_about(&self) -> Result<(), SandboxError> {
        let (path, text) = self.about();
        let draft = path.with_extension("new");
        // Never through what stands there: a link would lead elsewhere, a pipe wait.
        let write = || {
            unless_missing(fs::remove_file(&draft))?;
            File::create_new(&draft)?.write_all(text.as_bytes())?;
            fs::rename(&draft, &path)
        };
        write().map_err(|source| SandboxError::files("write", path.clone(), source))
    }

    pub(super) fn remove_about(&self) -> Result<(), SandboxError> {
        let (path, _) = self.about();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SandboxError::files("remove", path, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// What a stop takes away: in place unless it is marked as stopped, or absent.
    pub(super) fn see_stopped(&self) -> Result<StepObservation, SandboxError> {
        Ok(match self.folder.look()? {
            Sight::Absent | Sight::Stopped => NotInPlace("its node does not run".into()),
            Sight::Running(_) | Sight::Dead(_) | Sight::HalfMade(_) => InPlace,
        })
    }

    /// Ends the node and keeps the folder.
    pub(super) async fn stop(&self) -> Result<(), SandboxError> {
        match self.folder.look()? {
            Sight::Absent => return Ok(()),
            Sight::Running(record) => record.process.end().await?,
            Sight::Stopped | Sight::Dead(_) | Sight::HalfMade(_) => {}
        }
        self.folder.mark_stopped()
    }

    /// Whether no process holds the folder.
    fn is_free(&self) -> Result<bool, SandboxError> {
        let Some(folder) = self.open_folder()? else {
            return Ok(true);
        };
        Ok(flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok())
    }

    fn open_folder(&self) -> Result<Option<File>, SandboxError> {
        let path = self.folder.path();
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(|source| {
                SandboxError::files("open sandbox folder", path.to_owned(), source)
            }),
        }
    }

    /// Removes the folder and waits until no process holds it any more: a node whose record was
    /// lost is known by nothing but its lock, and leaves by itself when its folder is gone.
    pub(super) async fn vacate(&self) -> Result<(), SandboxError> {
        let Some(held) = self.open_folder()? else {
            return Ok(());
        };
        self.folder.remove()?;
        let giving_up = Instant::now() + LEAVING;
        while flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= giving_up {
                let path = self.folder.path().to_owned();
                return Err(SandboxError::FolderHeld { path });
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}
