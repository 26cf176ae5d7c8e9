//! A second kind of resource on Kindler's core: for each row of `folders` a folder on
//! disk, and in it a file for each name in the column `files`.
//!
//! ```text
//! cargo run --example second_table -- postgresql://me@localhost/scratch /tmp/folders
//! psql ... -c "INSERT INTO folders (name, files) VALUES ('photos', '{june,july}')"
//! psql ... -c "SELECT name, state, message FROM folders; DELETE FROM folders"
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io, process};

use async_trait::async_trait;
use kindler::core::backoff::Backoff;
use kindler::core::controller::{ControllerSettings, Finished};
use kindler::core::database::{Database, DatabaseError, Undecodable, column};
use kindler::core::standard::{RowSpec, Standard};
use kindler::core::{lease::LeasePolicy, resource::Resource, rows::Leased, runtime::Runtime};
use kindler::core::{steps::StepError, table::Table, work::Work};
use prometheus::{Registry, TextEncoder};
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS folders (
    name text PRIMARY KEY CHECK (name !~ '/' AND name NOT IN ('', '.', '..')),
    files text[] NOT NULL CHECK (NOT files && '{\"\",.,..}' AND array_to_string(files, '') !~ '/'))";

/// The spec of a row: the names of the files.
struct Folder(Vec<String>);

impl RowSpec for Folder {
    const TABLE: Table = Table::prepared(kindler::prepared_names!("folders", "name"), "t.files");

    fn read(row: &Row) -> Result<Self, Undecodable> {
        column(row, "files").map(Self)
    }
}

struct Folders {
    root: PathBuf,
    /// Waits before each effect, so that a person or a test can watch.
    pause: Duration,
}

#[async_trait]
impl Resource for Folders {
    type Object = Standard<Folder>;

    fn name(&self) -> &'static str {
        "folder"
    }

    async fn reconcile(
        &self,
        row: Leased<Self::Object>,
        work: &Work<Self>,
    ) -> Result<Finished, DatabaseError> {
        // The intent is committed before any effect.
        let Some(row) = work.begin(row, &[]).await? else {
            return Ok(Finished::AGAIN);
        };
        let cancel = CancellationToken::new();
        let effect = self.apply(&row.object, work, &cancel);
        let (ended, cancelled) = work
            .during_generation(row.generation, &cancel, effect)
            .await;
        // Checked again after a minute: a person may have removed a file by hand.
        let (check, backoff) = (Some(Duration::from_secs(60)), Backoff::default());
        work.conclude(&row, ended, cancelled, &[], check, &backoff)
            .await
    }
}

impl Folders {
    /// Creates missing files and removes those that are no longer declared. Each file is a
    /// symbolic link to the row's mark: created atomically, and never over another file.
    async fn apply(
        &self,
        row: &Standard<Folder>,
        work: &Work<Self>,
        cancel: &CancellationToken,
    ) -> Result<String, StepError> {
        let folder = self.root.join(&row.key);
        let mark = PathBuf::from(format!("made by Kindler for {}", row.uid));
        let files = row.deleted_at.map_or(&row.spec.0[..], |_| &[]);
        let declared: BTreeSet<PathBuf> = files.iter().map(|file| folder.join(file)).collect();
        let there = owned(&folder, &mark).map_err(StepError::transient)?;
        for path in there.symmetric_difference(&declared) {
            tokio::select! {
                () = tokio::time::sleep(self.pause) => {}
                () = cancel.cancelled() => return Err(StepError::Interrupted),
            }
            let (term, pid, shown) = (work.lease().term, process::id(), path.display());
            println!("begin {term} {pid} {shown}");
            let changed = if declared.contains(path) {
                fs::create_dir_all(&folder).and_then(|()| std::os::unix::fs::symlink(&mark, path))
            } else {
                fs::remove_file(path)
            };
            changed.map_err(StepError::transient)?;
            println!("end {term} {pid} {shown}");
        }
        if row.deleted_at.is_some() && folder.is_dir() {
            fs::remove_dir(&folder).map_err(StepError::transient)?;
        }
        Ok(format!("{} files are there", declared.len()))
    }
}

/// The files that are links to this mark.
fn owned(folder: &Path, mark: &Path) -> io::Result<BTreeSet<PathBuf>> {
    if !folder.try_exists()? {
        return Ok(BTreeSet::new());
    }
    let paths = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    Ok(paths
        .filter(|path| fs::read_link(path).is_ok_and(|to| to == mark))
        .collect())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let (Some(url), Some(root)) = (args.next(), args.next()) else {
        anyhow::bail!("usage: second_table DATABASE_URL FOLDER [PAUSE_IN_MILLISECONDS]");
    };
    let pause = Duration::from_millis(args.next().map_or(Ok(0), |text| text.parse())?);
    let (root, registry) = (root.into(), Registry::new());
    let mut runtime = Runtime::new(Database::parse(&url)?, &registry);
    runtime
        .prepare(CREATE, "folders", "name", &["files"])
        .await?;
    let ttl = Duration::from_secs(3);
    let (settings, lease) = (ControllerSettings::default(), LeasePolicy { ttl });
    runtime
        .add(Folders { root, pause }, settings, lease)
        .await?;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(runtime.run(shutdown.clone()));
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    running.await?;
    print!(
        "{}",
        TextEncoder::new().encode_to_string(&registry.gather())?
    );
    Ok(())
}
