//! The kubeconfig of the user, into which clusters are merged. Their health never depends on it.
//!
//! The files are those of kubectl: the list in `KUBECONFIG`, else `~/.kube/config`. Of a list, an
//! entry is changed where it is; a new one is written to the first file that exists, else to the
//! last of the list (client-go's `PathOptions.GetDefaultFilename`).

mod lock;
mod tree;

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::clusters::{ClusterName, Provider};
use crate::core::steps::StepObservation;

use super::error::NativeError;
use super::kubeconfig;
use super::work::{NativeWork, in_place};
use lock::ConfigLocks;
use tree::{ClusterEntries, ConfigTree, EntryKind, EntryNames};

use lock::WriteFault;

/// How often a merge starts over because a file changed meanwhile.
const ATTEMPTS: u32 = 5;

/// Why a cluster is not in the user's kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// No file is named.
    #[error("neither KUBECONFIG nor HOME names a kubeconfig")]
    NoFile,
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file has something else.
    #[error("{} cannot be edited: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why, without its content.
        why: String,
    },
    /// The cluster's own kubeconfig has something else.
    #[error("the kubeconfig of the cluster cannot be merged: {0}")]
    Private(String),
    /// A file cannot be locked or written.
    #[error("the kubeconfig of the user is not changed: {0}")]
    Write(String),
    /// The files change all the time.
    #[error("the kubeconfig of the user changes too often")]
    Contended,
    /// It was cancelled.
    #[error("the work was interrupted")]
    Interrupted,
}

impl From<WriteFault> for MergeError {
    fn from(fault: WriteFault) -> Self {
        match fault {
            WriteFault::Interrupted => Self::Interrupted,
            fault => Self::Write(crate::cause::chain(&fault)),
        }
    }
}

/// The files of the user's kubeconfig; there is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserKubeconfig {
    files: Vec<PathBuf>,
}

/// What a change of the files is.
#[derive(Clone, Copy)]
enum Change<'a> {
    Merge(&'a ClusterEntries),
    Remove(&'a EntryNames, Option<&'a ClusterEntries>),
}

/// The files with their trees; none for a file that does not exist.
type Trees = Vec<Option<ConfigTree>>;

impl UserKubeconfig {
    /// The files that this process's environment names.
    ///
    /// # Errors
    /// [`MergeError::NoFile`].
    pub fn of_environment() -> Result<Self, MergeError> {
        Self::of(env::var_os("KUBECONFIG"), env::var_os("HOME"))
    }

    fn of(list: Option<OsString>, home: Option<OsString>) -> Result<Self, MergeError> {
        let mut files: Vec<PathBuf> = Vec::new();
        for file in env::split_paths(&list.unwrap_or_default()) {
            if !file.as_os_str().is_empty() && !files.contains(&file) {
                files.push(file);
            }
        }
        if files.is_empty() {
            let home = home.filter(|home| !home.is_empty());
            let home = PathBuf::from(home.ok_or(MergeError::NoFile)?);
            files.push(home.join(".kube/config"));
        }
        Ok(Self { files })
    }

    /// Merges a cluster's private kubeconfig, and returns the context and the file with it.
    /// Blocks the thread.
    ///
    /// # Errors
    /// [`MergeError`]; it never contains a part of a kubeconfig.
    pub fn merge(
        &self,
        private: &str,
        (provider, name): (Provider, &ClusterName),
        cancel: &CancellationToken,
    ) -> Result<(String, PathBuf), MergeError> {
        let names = names(provider, name);
        let entries = read_private(private, &names)?;
        self.change(Change::Merge(&entries), cancel)?;
        let trees = self.read()?;
        let at = self.place(&trees, EntryKind::Context, &names.context);
        Ok((names.context, self.files[at].clone()))
    }

    /// Removes what leads to a cluster.
    fn remove(
        &self,
        private: Option<&str>,
        names: &EntryNames,
        cancel: &CancellationToken,
    ) -> Result<(), MergeError> {
        let entries = private.and_then(|private| ClusterEntries::read(private, names).ok());
        self.change(Change::Remove(names, entries.as_ref()), cancel)
    }

    /// Why the cluster is not merged; none if it is.
    fn difference(&self, private: &str, names: &EntryNames) -> Result<Option<String>, MergeError> {
        let entries = read_private(private, names)?;
        if let Some(left) = self.files.iter().find(|file| lock::is_left(file)) {
            let lock = lock::lock_path(left);
            return Ok(Some(format!(
                "an interrupted write left {}",
                lock.display()
            )));
        }
        let trees = self.read()?;
        Ok(EntryKind::ALL.into_iter().find_map(|kind| {
            let (at, entry) = self.found(&trees, kind, names.of(kind));
            let why = entries.difference(kind, entry)?;
            Some(format!("{} {why}", self.files[at].display()))
        }))
    }

    fn read(&self) -> Result<Trees, MergeError> {
        let read = |file: &PathBuf| match fs::read_to_string(file) {
            Ok(content) => match ConfigTree::parse(&content) {
                Ok(tree) => Ok(Some(tree)),
                Err(why) => Err(MergeError::Content {
                    path: file.clone(),
                    why: why.to_string(),
                }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(MergeError::Unreadable {
                path: file.clone(),
                source,
            }),
        };
        self.files.iter().map(read).collect()
    }

    /// The entry that kubectl uses, and the file in which it is or would be.
    fn found<'t>(
        &self,
        trees: &'t Trees,
        kind: EntryKind,
        name: &str,
    ) -> (usize, Option<&'t yaml_rust2::Yaml>) {
        let found = trees.iter().enumerate().find_map(|(at, tree)| {
            let entry = tree.as_ref()?.find(kind, name)?;
            Some((at, Some(entry)))
        });
        found.unwrap_or((default_file(trees), None))
    }

    fn place(&self, trees: &Trees, kind: EntryKind, name: &str) -> usize {
        self.found(trees, kind, name).0
    }

    /// The files after a change; only those that it changes.
    fn changed(&self, trees: &Trees, change: Change<'_>) -> Vec<(usize, ConfigTree)> {
        let mut after: Vec<ConfigTree> = trees
            .iter()
            .map(|tree| tree.clone().unwrap_or_else(ConfigTree::empty))
            .collect();
        match change {
            Change::Merge(entries) => {
                for kind in EntryKind::ALL {
                    let (at, entry) = self.found(trees, kind, entries.name(kind));
                    if entries.difference(kind, entry).is_some() {
                        after[at].put(kind, entries);
                    }
                }
                if after.iter().all(|tree| tree.current_context().is_none()) {
                    let name = entries.name(EntryKind::Context).to_owned();
                    after[default_file(trees)].set_current_context(&name);
                }
            }
            Change::Remove(names, entries) => {
                for tree in &mut after {
                    let mut removed = false;
                    for kind in EntryKind::ALL {
                        removed |= tree.remove(kind, names, entries);
                    }
                    if removed && tree.current_context() == Some(&names.context) {
                        tree.set_current_context("");
                    }
                }
            }
        }
        let is_changed = |(at, tree): &(usize, ConfigTree)| match &trees[*at] {
            Some(before) => before != tree,
            None => *tree != ConfigTree::empty(),
        };
        after.into_iter().enumerate().filter(is_changed).collect()
    }

    /// Locks the files that change, reads them again under the locks, and replaces each.
    fn change(&self, change: Change<'_>, cancel: &CancellationToken) -> Result<(), MergeError> {
        let mut planned = BTreeSet::new();
        for _ in 0..ATTEMPTS {
            let changed = self.changed(&self.read()?, change);
            planned.extend(changed.iter().map(|(at, _)| self.files[*at].clone()));
            // A write that was killed after its end left its lock.
            let left = self.files.iter().filter(|file| lock::is_left(file));
            planned.extend(left.cloned());
            if planned.is_empty() {
                return Ok(());
            }
            // In the order of kubectl, so that neither waits for the other.
            let _locks = ConfigLocks::take(planned.iter(), cancel)?;
            let changed = self.changed(&self.read()?, change);
            if changed
                .iter()
                .any(|(at, _)| !planned.contains(&self.files[*at]))
            {
                continue;
            }
            for (at, tree) in changed {
                if cancel.is_cancelled() {
                    return Err(MergeError::Interrupted);
                }
                lock::replace(&self.files[at], &tree.content())?;
            }
            return Ok(());
        }
        Err(MergeError::Contended)
    }
}

/// The file for new entries: the first that exists, else the last.
fn default_file(trees: &Trees) -> usize {
    let existing = trees.iter().position(Option::is_some);
    existing.unwrap_or(trees.len() - 1)
}

fn read_private(private: &str, names: &EntryNames) -> Result<ClusterEntries, MergeError> {
    ClusterEntries::read(private, names).map_err(|why| MergeError::Private(why.to_string()))
}

/// As the tools name the entries.
fn names(provider: Provider, name: &ClusterName) -> EntryNames {
    let context = provider.context(name);
    EntryNames {
        user: match provider {
            Provider::K3d => format!("admin@{context}"),
            Provider::Kind => context.clone(),
        },
        context,
    }
}

impl NativeWork<'_> {
    fn entry_names(&self) -> EntryNames {
        names(self.cluster().spec.provider, &self.cluster().name)
    }

    pub async fn observe_context(&self) -> Result<StepObservation, NativeError> {
        if !self.driver.settings.merge_kubeconfig {
            return Ok(StepObservation::InPlace);
        }
        let private = kubeconfig::text(&self.folder().kubeconfig())?;
        let names = self.entry_names();
        let difference = blocking(move |_| {
            let user = UserKubeconfig::of_environment()?;
            user.difference(&private, &names)
        });
        Ok(in_place(difference.await?))
    }

    pub async fn merge_context(&self) -> Result<(), NativeError> {
        if !self.driver.settings.merge_kubeconfig {
            return Ok(());
        }
        let private = kubeconfig::text(&self.folder().kubeconfig())?;
        let of = (self.cluster().spec.provider, self.cluster().name.clone());
        let merged = blocking(move |cancel| {
            let user = UserKubeconfig::of_environment()?;
            user.merge(&private, (of.0, &of.1), cancel)
        });
        Ok(merged.await.map(drop)?)
    }

    /// What cannot be undone must not keep the cluster.
    pub async fn remove_context(&self) -> Result<(), NativeError> {
        if !self.driver.settings.merge_kubeconfig {
            return Ok(());
        }
        let private = kubeconfig::text(&self.folder().kubeconfig()).ok();
        let names = self.entry_names();
        let removed = blocking(move |cancel| {
            let user = UserKubeconfig::of_environment()?;
            user.remove(private.as_deref(), &names, cancel)
        });
        match removed.await {
            Err(MergeError::Interrupted) => Err(MergeError::Interrupted.into()),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "a context stays in the kubeconfig of the user");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// Works on files beside the runtime. Nothing is written after the future is dropped, unless it
/// is being written.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&CancellationToken) -> Result<T, MergeError> + Send + 'static,
) -> Result<T, MergeError> {
    let cancel = CancellationToken::new();
    let _dropped = cancel.clone().drop_guard();
    let done = tokio::task::spawn_blocking(move || work(&cancel));
    done.await.unwrap_or(Err(MergeError::Interrupted))
}

#[cfg(test)]
mod tests;
