//! Carries out one action on one sandbox cluster, step by step.
//!
//! Every action starts from whatever is there, so it can be cut at any await and done again. This
//! module must not watch the clock or the lease: whoever drops the future does.

use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::time::{Instant, sleep};

use crate::clusters::Cluster;
use crate::clusters::plan::Action;

use super::error::SandboxError;
use super::folder::{Folder, Record, Sight};
use super::launch::{launch, taken};
use super::progress::Progress;
use super::{SandboxSettings, port, readiness};

/// How long a node that finds its folder removed may take to leave: it looks every second.
const LEAVING: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(super) struct Work<'a> {
    pub(super) settings: &'a SandboxSettings,
    pub(super) cluster: &'a Cluster,
    pub(super) folder: Folder,
    pub(super) progress: &'a mut Progress,
}

impl Work<'_> {
    pub(super) async fn carry_out(&mut self, action: Action) -> Result<(), SandboxError> {
        match action {
            Action::Create | Action::Update => self.bring_up().await,
            Action::Start => match self.folder.look()? {
                Sight::Absent => Err(SandboxError::NothingToStart),
                Sight::Running(_) | Sight::Stopped | Sight::Dead(_) | Sight::HalfMade(_) => {
                    self.bring_up().await
                }
            },
            Action::Stop => self.stop().await,
            Action::Delete => self.delete().await,
        }
    }

    async fn bring_up(&mut self) -> Result<(), SandboxError> {
        if self
            .settings
            .always_fails
            .iter()
            .any(|name| name == self.cluster.name.as_str())
        {
            return Err(SandboxError::OnPurpose(
                "its name is in KINDLER_SANDBOX_FAIL",
            ));
        }
        self.fail_by_chance()?;
        if let Sight::Running(record) = self.folder.look()?
            && self.serves_already(&record).await
        {
            self.progress.say("it runs already, as declared").await;
            return self.keep(record);
        }
        let pause = self.settings.create_delay / 3;
        self.progress.step(1, 3, "prepare the folder").await;
        sleep(pause).await;
        self.prepare().await?;
        self.progress.step(2, 3, "start the node").await;
        sleep(pause).await;
        launch(self.settings, self.cluster, &self.folder).await?;
        self.folder.unmark_stopped()?;
        self.progress.step(3, 3, "ask whether it is ready").await;
        sleep(pause).await;
        self.ready().await.map_err(SandboxError::NotAnswering)
    }

    async fn serves_already(&self, record: &Record) -> bool {
        record.port == self.port() && self.ready().await.is_ok()
    }

    async fn ready(&self) -> Result<(), String> {
        let patience = self.settings.deadlines.probe;
        readiness::ask(self.port(), self.cluster.name.as_str(), patience).await
    }

    fn port(&self) -> u16 {
        self.cluster.spec.http_port.get()
    }

    fn keep(&self, record: Record) -> Result<(), SandboxError> {
        let uid = Some(self.cluster.uid);
        if (record.uid, record.generation) != (uid, self.cluster.generation) {
            self.folder.write_record(&Record {
                uid,
                generation: self.cluster.generation,
                ..record
            })?;
        }
        self.folder.unmark_stopped()
    }

    /// Leaves a folder in which no process lives.
    async fn prepare(&mut self) -> Result<(), SandboxError> {
        match self.folder.look()? {
            Sight::Absent | Sight::Stopped | Sight::Dead(_) => {}
            Sight::Running(record) => {
                // Asked first, so that a taken port does not cost the cluster that runs.
                if record.port != self.port() && !port::is_free(self.port()) {
                    return Err(taken(self.port()).await);
                }
                self.progress
                    .say("end the node that runs on another port or hangs")
                    .await;
                record.process.end().await?;
            }
            Sight::HalfMade(why) => {
                self.progress.say(&format!("begin afresh: {why}")).await;
                self.vacate().await?;
            }
        }
        self.folder.create()
    }

    async fn stop(&mut self) -> Result<(), SandboxError> {
        self.fail_by_chance()?;
        self.progress.step(1, 2, "end the node").await;
        sleep(self.settings.delete_delay).await;
        match self.folder.look()? {
            Sight::Absent => return Ok(()),
            Sight::Running(record) => record.process.end().await?,
            Sight::Stopped | Sight::Dead(_) | Sight::HalfMade(_) => {}
        }
        self.progress.step(2, 2, "mark the folder as stopped").await;
        self.folder.mark_stopped()
    }

    async fn delete(&mut self) -> Result<(), SandboxError> {
        self.fail_by_chance()?;
        self.progress.step(1, 2, "end the node").await;
        sleep(self.settings.delete_delay).await;
        if let Some(Ok(record)) = self.folder.record().unwrap_or_default() {
            record.process.end().await?;
        }
        self.progress.step(2, 2, "remove the folder").await;
        self.vacate().await
    }

    /// Removes the folder and waits until no process holds it any more: a node whose record was
    /// lost is known by nothing but its lock, and leaves by itself when its folder is gone.
    async fn vacate(&self) -> Result<(), SandboxError> {
        let path = self.folder.path();
        let held = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(|source| SandboxError::Files {
                operation: "open sandbox folder",
                path: path.to_owned(),
                source,
            })?,
        };
        self.folder.remove()?;
        let giving_up = Instant::now() + LEAVING;
        while flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= giving_up {
                let path = path.to_owned();
                return Err(SandboxError::FolderHeld { path });
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    fn fail_by_chance(&self) -> Result<(), SandboxError> {
        if fastrand::f64() < self.settings.failure_rate {
            return Err(SandboxError::OnPurpose(
                "KINDLER_SANDBOX_FAILURE_RATE asks for it",
            ));
        }
        Ok(())
    }
}
