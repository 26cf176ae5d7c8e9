//! File operations with a deadline. A file system that does not answer (a lost NFS server, a
//! failing disk) blocks the thread that waits for it, and nothing ends that wait. So the
//! operations of a folder run on a thread of their own: its callers wait for a bounded time, and
//! while it hangs, further ones fail at once. The process does not wait for it at its end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// How long one operation may take, with those that wait before it.
pub const FILE_DEADLINE: Duration = Duration::from_secs(2);

/// The largest number of operations that wait: more than reconciles run at once.
const WAITING: usize = 1024;

/// The thread of the state folder of this process.
pub fn state_files() -> &'static FileThread {
    static FILES: LazyLock<FileThread> = LazyLock::new(|| FileThread::start("state folder"));
    &FILES
}

/// The thread of the host's scripts.
pub fn script_files() -> &'static FileThread {
    static FILES: LazyLock<FileThread> = LazyLock::new(|| FileThread::start("scripts"));
    &FILES
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread of one folder; cheap to clone.
#[derive(Clone, Debug)]
pub struct FileThread {
    name: &'static str,
    jobs: SyncSender<Job>,
    /// Since when the present operation runs.
    running: Arc<Mutex<Option<Instant>>>,
}

impl FileThread {
    /// Starts a thread of this name, at most 15 bytes long.
    pub fn start(name: &'static str) -> Self {
        let (jobs, queue) = sync_channel(WAITING);
        let running = Arc::new(Mutex::new(None));
        let thread = Self {
            name,
            jobs,
            running: running.clone(),
        };
        // Without a thread every operation is late, as with a folder that hangs.
        let _ = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work_off(&queue, &running));
        thread
    }

    /// Runs an operation.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if it does not end in time. It may take effect later only if it
    /// has begun.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = oneshot::channel();
        self.add(Box::new(move || {
            // What nothing waits for any more has no effect: its caller may have lost a lease.
            if !done.is_closed() {
                drop(done.send(work()));
            }
        }))?;
        match tokio::time::timeout(FILE_DEADLINE, result).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) | Err(_) => Err(self.late()),
        }
    }

    /// Runs an operation, and blocks the calling thread meanwhile.
    ///
    /// # Errors
    /// As [`FileThread::run`].
    pub fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = sync_channel(1);
        self.add(Box::new(move || drop(done.send(work()))))?;
        result.recv_timeout(FILE_DEADLINE).map_err(|_| self.late())
    }

    /// Runs an operation whose result nothing waits for.
    pub fn run_later(&self, work: impl FnOnce() + Send + 'static) {
        let _ = self.add(Box::new(work));
    }

    fn add(&self, job: Job) -> io::Result<()> {
        let running = *self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some_and(|since| since.elapsed() > FILE_DEADLINE) {
            return Err(self.late());
        }
        self.jobs.try_send(job).map_err(|_| self.late())
    }

    fn late(&self) -> io::Error {
        let why = format!(
            "the file system of the {} did not answer within {FILE_DEADLINE:?}",
            self.name
        );
        io::Error::new(io::ErrorKind::TimedOut, why)
    }
}

fn work_off(queue: &Receiver<Job>, running: &Mutex<Option<Instant>>) {
    let set = |now| *running.lock().unwrap_or_else(PoisonError::into_inner) = now;
    for job in queue {
        set(Some(Instant::now()));
        // The caller gets no answer, and the thread continues.
        let _ = catch_unwind(AssertUnwindSafe(job));
        set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn a_hung_operation_delays_others_only_once() {
        let files = FileThread::start("test folder");
        assert_eq!(files.run(|| 7).await.unwrap(), 7);
        let (release, hangs) = channel::<()>();
        let began = Instant::now();
        let late = files.run(move || hangs.recv().is_ok()).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < FILE_DEADLINE * 3);
        let began = Instant::now();
        assert!(files.run(|| ()).await.is_err());
        assert!(files.run_blocking(|| ()).is_err());
        assert!(began.elapsed() < FILE_DEADLINE, "others fail at once");
        drop(release);
        let recovered = async {
            while files.run(|| ()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        let recovered = tokio::time::timeout(FILE_DEADLINE * 5, recovered).await;
        recovered.expect("it works again");
    }

    #[tokio::test]
    async fn what_waited_in_vain_has_no_effect_later() {
        let files = FileThread::start("test folder");
        let (release, hangs) = channel::<()>();
        let hung = files.run(move || hangs.recv().is_ok());
        let (effect, seen) = channel();
        let waits = files.run(move || effect.send(()).is_ok());
        let (hung, waits) = tokio::join!(hung, waits);
        assert!(hung.is_err() && waits.is_err());
        drop(release);
        assert!(seen.recv().is_err(), "it is dropped without being run");
    }

    #[tokio::test]
    async fn a_panic_ends_only_its_operation() {
        let files = FileThread::start("test folder");
        assert!(files.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(files.run_blocking(|| 1).unwrap(), 1);
    }
}
