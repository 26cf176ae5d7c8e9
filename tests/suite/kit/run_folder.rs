//! The folder of one test process, which is removed however that process ends.
//!
//! A small shell outlives the tests: it reads a pipe whose writing end only the test
//! process has. When that process ends in any way, the pipe closes; the shell then
//! stops every Postgres in the folder and removes the folder.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

const PREFIX: &str = "kindler-tests-";

/// Stops every server in the folder `$0` and removes the folder. A suspended server
/// must be resumed to receive the signal (it kills its suspended children after five
/// seconds); a server that does not end within ten seconds is killed. A process id
/// counts only while the process has the data folder in its command line.
const REMOVE: &str = r#"
for file in "$0"/*/data/postmaster.pid "$0"/*/postgres/data/postmaster.pid; do
    [ -f "$file" ] || continue
    read -r pid < "$file"
    data=${file%/postmaster.pid}
    serves() {
        grep -qzxF -- "$data" "/proc/$pid/cmdline" 2>/dev/null
    }
    serves || continue
    kill -QUIT "$pid"
    kill -CONT "$pid"
    for _ in $(seq 200); do
        serves || continue 2
        sleep 0.05
    done
    kill -KILL "$pid"
done
rm -rf -- "$0"
"#;

#[derive(Debug)]
struct RunFolder {
    path: PathBuf,
    /// Owns the pipe, which is never written to; the kernel closes it when this process
    /// ends.
    _watchdog: Child,
}

/// The folder of this test process, created on first use and removed after the process
/// has ended.
pub fn run_folder() -> &'static Path {
    static FOLDER: OnceLock<RunFolder> = OnceLock::new();
    &FOLDER.get_or_init(RunFolder::make).path
}

impl RunFolder {
    fn make() -> Self {
        let temp = std::env::temp_dir()
            .canonicalize()
            .expect("the temp folder exists");
        remove_folders_of_dead_runs(&temp);
        let path = temp.join(format!("{PREFIX}{}", std::process::id()));
        // If root runs the tests, the server runs as another account, which must be
        // able to pass through.
        DirBuilder::new()
            .mode(0o711)
            .create(&path)
            .expect("create the folder of this test run");
        let watchdog = Command::new("sh")
            .arg("-c")
            .arg(format!("cat >/dev/null\n{REMOVE}"))
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C must end the tests, but not their watchdog.
            .process_group(0)
            .spawn()
            .expect("start the watchdog of this test run");
        Self {
            path,
            _watchdog: watchdog,
        }
    }
}

/// Does the watchdog's work for test runs whose watchdog also died.
fn remove_folders_of_dead_runs(temp: &Path) {
    for entry in fs::read_dir(temp).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        let Some(owner) = owner else { continue };
        let running = Path::new(&format!("/proc/{owner}")).exists();
        if !running || owner == std::process::id() {
            let _ = Command::new("sh")
                .arg("-c")
                .arg(REMOVE)
                .arg(entry.path())
                .status();
        }
    }
}
