//! Faults of hosts and daemons.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use super::{Explained, Site, Words};
use crate::kit::{Daemon, Host, Sql};

const STATUS: &[&str] = &["status"];

pub(super) async fn folder_full() -> Explained {
    let mut site = Site::without_daemon().await;
    let builder = Daemon::builder(&site.database.url(), &site.host);
    let daemon = builder
        .with_state_dir_size(256)
        .expect("run it as root")
        .start()
        .await;
    // The path through the mount namespace of the daemon.
    let state = format!(
        "/proc/{}/root{}",
        daemon.pid(),
        site.host.state_dir().display()
    );
    std::fs::write(Path::new(&state).join("filler"), vec![0; 1 << 20]).unwrap_err();
    site.daemon = Some(daemon);
    let words = Words {
        cause: &["StateFolderFull", "no space", "is full"],
        next: &["next:", "free"],
    };
    site.look(STATUS, &words).await
}

pub(super) async fn folder_foreign() -> Explained {
    // A daemon that is not root, and may use the database's socket.
    let mut site = Site::without_daemon().await;
    let owner = std::fs::metadata(site.database.socket_dir()).unwrap();
    let (uid, gid) = (owner.uid(), owner.gid());
    let folders = [site.host.path().to_owned(), site.host.state_dir()];
    let given = folders.map(|folder| chown(folder, Some(uid), Some(gid)));
    given
        .into_iter()
        .for_each(|given| given.expect("run it as root"));
    let builder = Daemon::builder(&site.database.url(), &site.host);
    site.daemon = Some(builder.by_user(uid, gid).start().await);
    chown(site.host.state_dir(), Some(0), Some(0)).unwrap();
    let words = Words {
        cause: &["StateFolderForeign", "belongs to"],
        next: &["chown", "next:"],
    };
    site.look(STATUS, &words).await
}

pub(super) async fn daemons_differ() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    let other = Host::new();
    other.script("create", "exit 0");
    let _second = Daemon::builder(&site.database.url(), &other)
        .set("KINDLER_HEALTH_INTERVAL", "2s")
        .start()
        .await;
    let words = Words {
        cause: &["ReplicasDiffer", "differ"],
        next: &["next:"],
    };
    site.look(STATUS, &words).await
}

pub(super) async fn clock_off() -> Explained {
    let mut site = Site::without_daemon().await;
    let library = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut library = library.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let library = library
        .find(|path| path.exists())
        .expect("libfaketime is installed");
    let daemon = Daemon::builder(&site.database.url(), &site.host)
        .set("LD_PRELOAD", library)
        .set("FAKETIME", "+1h")
        .set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    site.daemon = Some(daemon.start().await);
    let words = Words {
        cause: &["ClockApart", "clock"],
        next: &["next:", "synchroni"],
    };
    site.look(STATUS, &words).await
}

pub(super) async fn killed_in_create() -> Explained {
    let mut site = Site::new(|daemon| daemon).await;
    site.host.control("create", "sleep 600");
    site.sql.declare("dev").await;
    site.host.wait_commands(1).await;
    site.daemon.take().unwrap().kill();
    site.host.release("create");
    // Nobody works until the next daemon starts.
    let words = Words {
        cause: &["no daemon", "none is running"],
        next: &["hint:", "next:", "start"],
    };
    site.look(STATUS, &words).await
}
