//! The example works as documented: another kind of resource on the core, over its own
//! table, with two replicas of which one is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::kit::{Database, Sql, eventually};

const EXAMPLE_TIMEOUT: Duration = Duration::from_secs(30);

/// target/<profile>/deps/suite-… -> target/<profile>/examples/second_table
async fn program() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "second_table"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .await
        .unwrap();
    assert!(built.success());
    let target = std::env::current_exe().unwrap();
    let profile = target.ancestors().nth(2).unwrap();
    profile.join("examples/second_table")
}

/// Folders on disk, and the journal that every replica appends to.
struct ExampleRig {
    database: Database,
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl ExampleRig {
    async fn new() -> Self {
        Self {
            database: Database::create().await,
            dir: tempfile::tempdir().unwrap(),
            program: program().await,
        }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("folders")
    }

    fn journal(&self) -> String {
        fs::read_to_string(self.dir.path().join("journal")).unwrap_or_default()
    }

    /// A replica that pauses so long before each effect.
    fn replica(&self, pause: u32) -> Child {
        let journal = self.dir.path().join("journal");
        let journal: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(journal)
            .unwrap();
        Command::new(&self.program)
            .arg(self.database.url())
            .arg(self.root())
            .arg(pause.to_string())
            .stdout(journal)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn wait_prepared(&self) {
        eventually(EXAMPLE_TIMEOUT, "the example's table", || async {
            let sql = "SELECT to_regclass('folders_events') IS NOT NULL";
            self.database.value::<bool>(sql).await
        })
        .await;
    }

    async fn wait_all_ready(&self, awaited: &str) {
        eventually(EXAMPLE_TIMEOUT, awaited, || async {
            let sql = "SELECT count(*) FROM folders WHERE state <> 'ready' OR observed_generation <> generation";
            self.database.value::<i64>(sql).await == 0
        })
        .await;
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap()
}

/// The pid in the journal.
fn raw_pid(child: &Child) -> i32 {
    pid(child).as_raw_nonzero().get()
}

/// One line of the journal.
struct JournalLine {
    begins: bool,
    term: i64,
    pid: i32,
    path: PathBuf,
}

fn lines(journal: &str) -> Vec<JournalLine> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [what @ ("begin" | "end"), term, pid, path] = words[..] else {
            return None;
        };
        Some(JournalLine {
            begins: what == "begin",
            term: term.parse().ok()?,
            pid: pid.parse().ok()?,
            path: path.into(),
        })
    };
    journal.lines().filter_map(line).collect()
}

/// At most one replica works on a folder at a time, terms only rise, and no effect is
/// repeated, except those that `dead` had begun and not ended.
fn assert_no_double_effect(lines: &[JournalLine], dead: i32) {
    let mut working: BTreeMap<&Path, (i32, i64)> = BTreeMap::new();
    let mut terms: BTreeMap<&Path, i64> = BTreeMap::new();
    let mut done: BTreeSet<&Path> = BTreeSet::new();
    for line in lines {
        let folder = line.path.parent().unwrap();
        let term = terms.entry(folder).or_insert(line.term);
        assert!(
            *term <= line.term,
            "an older term acts in {}",
            folder.display()
        );
        *term = line.term;
        if line.begins {
            let other = working.insert(folder, (line.pid, line.term));
            let alone = other.is_none_or(|(pid, term)| {
                pid == line.pid && term <= line.term || pid == dead && term < line.term
            });
            assert!(
                alone,
                "two replicas work in {}: {other:?}",
                folder.display()
            );
            assert!(
                !done.contains(&*line.path),
                "{} was made twice",
                line.path.display()
            );
        } else {
            working.remove(folder);
            done.insert(&line.path);
        }
    }
}

#[tokio::test]
async fn a_killed_replica_leaves_no_double_effect() {
    let rig = ExampleRig::new().await;
    // Long enough to observe the middle of the work on a busy machine.
    let mut replicas = [rig.replica(150), rig.replica(150)];
    rig.wait_prepared().await;
    rig
        .database
        .run("INSERT INTO folders (name, files) SELECT 'f' || n, '{a,b,c}' FROM generate_series(1, 20) n")
        .await;
    // One may have started so much earlier that it claims all the work.
    let busy = eventually(
        EXAMPLE_TIMEOUT,
        "a replica in the middle of its work",
        || async {
            let all = lines(&rig.journal());
            let in_the_middle = |replica: &Child| {
                let own = all.iter().filter(|line| line.pid == raw_pid(replica));
                let own: Vec<&JournalLine> = own.collect();
                let begins = own.last().is_some_and(|line| line.begins);
                own.len() > 4 && (begins || !own.len().is_multiple_of(6))
            };
            replicas.iter().position(in_the_middle)
        },
    )
    .await;
    replicas.swap(0, busy);
    let [mut killed, mut left] = replicas;
    let killed_pid = raw_pid(&killed);
    kill_process(pid(&killed), Signal::KILL).unwrap();
    killed.wait().await.unwrap();
    rig.wait_all_ready("all folders, by the remaining replica")
        .await;
    for n in 1..=20 {
        for file in ["a", "b", "c"] {
            let path = rig.root().join(format!("f{n}/{file}"));
            assert!(path.is_symlink(), "{}", path.display());
        }
    }
    let all = lines(&rig.journal());
    assert!(all.iter().any(|line| line.pid == raw_pid(&left)));
    assert_no_double_effect(&all, killed_pid);
    let events = "SELECT count(DISTINCT key) FROM folders_events WHERE kind = 'transition' AND to_state = 'ready'";
    assert_eq!(rig.database.value::<i64>(events).await, 20);

    kill_process(pid(&left), Signal::INT).unwrap();
    assert!(left.wait().await.unwrap().success());
    let printed = rig.journal();
    let reconciled = r#"kindler_reconcile_total{controller="folder",result="success"}"#;
    assert!(printed.contains(reconciled), "{printed}");
}

#[tokio::test]
async fn drift_is_repaired_and_a_delete_waits_for_foreign_files() {
    let rig = ExampleRig::new().await;
    let _replica = rig.replica(0);
    rig.wait_prepared().await;
    let database = &rig.database;
    database
        .run("INSERT INTO folders (name, files) VALUES ('photos', '{june,july}')")
        .await;
    rig.wait_all_ready("the folder").await;
    let photos = rig.root().join("photos");
    let foreign = photos.join("not-ours");
    fs::write(&foreign, "foreign").unwrap();
    fs::remove_file(photos.join("june")).unwrap();
    database
        .run("UPDATE folders SET files = '{june,august}'")
        .await;
    rig.wait_all_ready("the changed folder").await;
    let names = || {
        let entries = fs::read_dir(&photos).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.collect::<BTreeSet<_>>()
    };
    let expected = ["august", "june", "not-ours"].map(str::to_owned);
    assert_eq!(names(), BTreeSet::from(expected));

    // A DELETE keeps the row until its folder is empty; foreign files stay.
    database.run("DELETE FROM folders").await;
    eventually(EXAMPLE_TIMEOUT, "the delete to fail visibly", || async {
        let sql =
            "SELECT count(*) FROM folders WHERE state = 'failed' AND message LIKE '%not empty%'
                   AND next_attempt_at > now() AND deleted_at IS NOT NULL";
        database.value::<i64>(sql).await == 1
    })
    .await;
    assert_eq!(names(), BTreeSet::from(["not-ours".to_owned()]));
    fs::remove_file(&foreign).unwrap();
    database
        .run("UPDATE folders SET retry_requested_at = now()")
        .await;
    eventually(EXAMPLE_TIMEOUT, "the removal of the row", || async {
        database.value::<i64>("SELECT count(*) FROM folders").await == 0
    })
    .await;
    assert!(!photos.exists());
}

#[tokio::test]
async fn a_write_that_the_database_refuses_is_shown() {
    let rig = ExampleRig::new().await;
    let _replica = rig.replica(0);
    rig.wait_prepared().await;
    let refusing = "
        CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'not on Fridays'; END $$;
        CREATE TRIGGER zz_no BEFORE UPDATE ON folders FOR EACH ROW
        WHEN (NEW.state = 'ready') EXECUTE FUNCTION no();
        INSERT INTO folders (name, files) VALUES ('a', '{x}')";
    rig.database.connect().await.run(refusing).await;
    let shown = "SELECT count(*) FROM folders WHERE state = 'failed' AND reason = 'WriteRefused'
        AND message LIKE '%not on Fridays%' AND next_attempt_at > created_at";
    eventually(EXAMPLE_TIMEOUT, "the refusal in the row", || async {
        rig.database.value::<i64>(shown).await == 1
    })
    .await;
    let allow = "DROP FUNCTION no() CASCADE; UPDATE folders SET retry_requested_at = now()";
    rig.database.connect().await.run(allow).await;
    rig.wait_all_ready("the row ready").await;
}
