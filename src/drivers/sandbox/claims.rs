//! Which sandbox cluster has claimed which port of this host: a link
//! `.ports/PORT -> ../NAME` for each, next to the folders. A claim is only a record; a node
//! gets its port when it binds the socket.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::error::SandboxError;

/// The folder of the claims; no name of a cluster contains a dot.
const PORTS: &str = ".ports";

pub(super) struct PortClaims {
    dir: PathBuf,
}

impl PortClaims {
    /// The claims of the sandbox clusters in this folder.
    pub(super) fn new(sandbox: &Path) -> Self {
        Self {
            dir: sandbox.join(PORTS),
        }
    }

    fn link(&self, port: u16) -> PathBuf {
        self.dir.join(port.to_string())
    }

    /// Whether a cluster has claimed a port.
    pub(super) fn has_claimed(&self, name: &str, port: u16) -> Result<bool, SandboxError> {
        let link = self.link(port);
        match fs::read_link(&link) {
            Ok(target) => Ok(target == target_of(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(SandboxError::files("read", link, source)),
        }
    }

    /// Claims a free port, and releases any other that the cluster had.
    pub(super) fn claim(&self, name: &str, port: u16) -> Result<(), SandboxError> {
        let link = self.link(port);
        let draft = self.dir.join(format!("{name}.new"));
        let write = || {
            fs::create_dir_all(&self.dir)?;
            unless_missing(fs::remove_file(&draft))?;
            symlink(target_of(name), &draft)?;
            fs::rename(&draft, &link)
        };
        write().map_err(|source| SandboxError::files("write", link.clone(), source))?;
        self.release_except(name, Some(&link))
    }

    /// Releases all ports of the cluster.
    pub(super) fn release(&self, name: &str) -> Result<(), SandboxError> {
        self.release_except(name, None)
    }

    fn release_except(&self, name: &str, kept: Option<&Path>) -> Result<(), SandboxError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries,
        };
        let entries =
            entries.map_err(|source| SandboxError::files("read", self.dir.clone(), source))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let own = fs::read_link(&path).is_ok_and(|target| target == target_of(name));
            if own && kept != Some(&path) {
                unless_missing(fs::remove_file(&path))
                    .map_err(|source| SandboxError::files("remove", path, source))?;
            }
        }
        Ok(())
    }
}

fn target_of(name: &str) -> PathBuf {
    Path::new("..").join(name)
}

pub(super) fn unless_missing(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
