//! What Kindler records of its clusters on this host: which row made each, and on which engine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// The folder of one cluster.
#[derive(Clone, Debug)]
pub(super) struct ClusterFolder {
    path: PathBuf,
}

impl ClusterFolder {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The private kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// The configuration with which kind makes the cluster.
    pub fn kind_config(&self) -> PathBuf {
        self.path.join("kind.yaml")
    }

    fn owner_file(&self) -> PathBuf {
        self.path.join("owner")
    }

    /// The row that made the cluster, or was about to.
    pub fn owner(&self) -> Option<Uuid> {
        let text = fs::read_to_string(self.owner_file()).ok()?;
        text.trim().parse().ok()
    }

    /// Records that this row makes the cluster: before it is made, so that a crash leaves no
    /// cluster without an owner.
    pub fn own(&self, uid: Uuid) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        replace(&self.owner_file(), &format!("{uid}\n"))
    }

    /// Removes the folder of a cluster that is gone.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Replaces a file as a whole, on the disk.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs::File::create(&part)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    fs::rename(part, path)
}

/// The file with the ID of the engine.
pub(super) fn engine_file(dir: &Path) -> PathBuf {
    dir.join("engine")
}

/// The recorded ID of the engine; the first one that answers is recorded.
pub(super) fn record_engine(dir: &Path, answering: &str) -> String {
    let path = engine_file(dir);
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    match recorded.trim() {
        "" => {
            // Without a record the next start records it.
            let _ =
                fs::create_dir_all(dir).and_then(|()| replace(&path, &format!("{answering}\n")));
            answering.to_owned()
        }
        recorded => recorded.to_owned(),
    }
}
