//! The example does what it says: the controller knows no cluster.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::kit::{Database, eventually};

#[tokio::test]
async fn the_controller_runs_another_reconciler_over_another_table() {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "second_table"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .await
        .unwrap();
    assert!(built.success());
    // target/<profile>/deps/suite-… -> target/<profile>/examples/second_table
    let target = std::env::current_exe().unwrap();
    let program = target
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/second_table");

    let database = Database::create().await;
    let root = tempfile::tempdir().unwrap();
    let mut example = Command::new(program)
        .arg(database.url())
        .arg(root.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deadline = Duration::from_secs(20);
    eventually(deadline, "the example's table", || async {
        database
            .value::<bool>("SELECT to_regclass('folders') IS NOT NULL")
            .await
    })
    .await;
    database
        .execute("INSERT INTO folders (name) VALUES ('photos'), ('letters')")
        .await;
    for name in ["photos", "letters"] {
        eventually(deadline, name, || async { root.path().join(name).is_dir() }).await;
    }
    database
        .execute("UPDATE folders SET wanted = false WHERE name = 'photos'")
        .await;
    eventually(deadline, "photos to go", || async {
        !root.path().join("photos").exists()
    })
    .await;
    eventually(deadline, "the record of it", || async {
        database
            .value::<i64>("SELECT count(*) FROM folders WHERE wanted <> made")
            .await
            == 0
    })
    .await;
    let pid = i32::try_from(example.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(example.wait().await.unwrap().success());
}
