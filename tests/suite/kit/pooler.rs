//! A real pgbouncer in front of a test server, in any pool mode.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kindler::postgres::{Account, SUPERUSER, socket_url};

use super::database::Database;
use super::eventually::eventually;
use super::postgres::try_connect;
use super::run_folder::run_folder;

/// A running pgbouncer; killed when dropped.
#[derive(Debug)]
pub struct Pooler {
    child: Child,
    folder: PathBuf,
    database: String,
}

impl Pooler {
    /// Starts one for a database and waits until it answers.
    pub async fn start(database: &Database, pool_mode: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = run_folder().join(format!("pooler-{number}"));
        // pgbouncer refuses to run as root, so it runs as the server's account.
        let account = Account::for_new_data().expect("choose the account of pgbouncer");
        fs::create_dir(&folder).expect("create the folder");
        let settings = folder.join("pgbouncer.ini");
        let (server, own) = (database.socket_dir(), folder.display());
        let text = format!(
            "[databases]\n* = host={} user={SUPERUSER}\n[pgbouncer]\nlisten_addr =\n\
             unix_socket_dir = {own}\nlisten_port = 5432\nauth_type = any\n\
             pool_mode = {pool_mode}\ndefault_pool_size = 10\nmax_client_conn = 100\n",
            server.display()
        );
        fs::write(&settings, text).expect("write the settings");
        account
            .own(&folder)
            .expect("change the owner of the folder");
        let log = File::create(run_folder().join(format!("pooler-{number}.log"))).unwrap();
        // Debian's path, which is not in the PATH of users.
        let debian = Path::new("/usr/sbin/pgbouncer");
        let program = if debian.exists() {
            debian
        } else {
            Path::new("pgbouncer")
        };
        let mut command = Command::new(program);
        command
            .arg(&settings)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = account.apply(&mut command).spawn().unwrap_or_else(|error| {
            panic!("pgbouncer cannot be started: {error}; to install it: sh deploy/setup.sh test")
        });
        let pooler = Self {
            child,
            folder,
            database: database.name().to_owned(),
        };
        eventually(Duration::from_secs(20), "pgbouncer to answer", || async {
            match try_connect(&pooler.url()).await {
                Ok(client) => client.simple_query("SELECT 1").await.is_ok(),
                Err(_) => false,
            }
        })
        .await;
        pooler
    }

    /// The URL of the database through the pooler.
    pub fn url(&self) -> String {
        socket_url(&self.folder, SUPERUSER, &self.database)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
