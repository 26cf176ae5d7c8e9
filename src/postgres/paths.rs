//! The paths of the private Postgres server, and its URL.
//!
//! All are in the state folder, except that the socket moves to the temp folder if its path would
//! be too long. This module computes paths; it does not touch files.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The longest path of a Unix socket on Linux, in bytes: `sun_path` without its final NUL.
const LONGEST_SOCKET_PATH: usize = 107;

/// The name of Postgres' socket on the default port, which clients assume.
const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// The paths of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerPaths {
    /// `postgres` in the state folder, which holds the next three.
    pub home: PathBuf,
    /// The data folder.
    pub data: PathBuf,
    /// A data folder that `initdb` has not finished; renamed to `data` when it has.
    pub unfinished_data: PathBuf,
    /// The log of the server and of `pg_ctl`.
    pub log: PathBuf,
    /// The private folder with the socket.
    pub socket_dir: PathBuf,
}

impl ServerPaths {
    /// The paths for a state folder, whose own path must be absolute and without links.
    pub fn of(state_dir: &Path) -> Self {
        let home = state_dir.join("postgres");
        let run = home.join("run");
        Self {
            data: home.join("data"),
            unfinished_data: home.join("data.unfinished"),
            log: home.join("postgres.log"),
            socket_dir: if can_hold_socket(&run) {
                run
            } else {
                private_temp_dir(state_dir)
            },
            home,
        }
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.socket_dir.join(SOCKET_NAME)
    }

    /// The lock file of the socket.
    pub fn socket_lock(&self) -> PathBuf {
        self.socket_dir.join(format!("{SOCKET_NAME}.lock"))
    }

    /// The file in the data folder with the server's PID.
    pub fn pid_file(&self) -> PathBuf {
        self.data.join("postmaster.pid")
    }

    /// Whether the socket moved out of the state folder.
    pub fn socket_is_elsewhere(&self) -> bool {
        !self.socket_dir.starts_with(&self.home)
    }
}

/// Whether a socket fits in this folder and a URL can name it: clients read a comma as the end of
/// a host name, and a URL is UTF-8.
fn can_hold_socket(folder: &Path) -> bool {
    let length = folder.as_os_str().len() + 1 + SOCKET_NAME.len();
    length <= LONGEST_SOCKET_PATH && folder.to_str().is_some_and(|path| !path.contains(','))
}

/// A folder in the temp folder, always the same for this state folder.
fn private_temp_dir(state_dir: &Path) -> PathBuf {
    let name = stable_name(state_dir);
    let preferred = env::temp_dir().join(&name);
    if preferred.is_absolute() && can_hold_socket(&preferred) {
        preferred
    } else {
        Path::new("/tmp").join(name)
    }
}

/// A name that stands for a path: FNV-1a, 64 bit, which unlike the standard library's hash never
/// changes.
pub(super) fn stable_name(path: &Path) -> String {
    let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let bytes = path.as_os_str().as_encoded_bytes();
    format!(
        "kindler-{:016x}",
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, hash)
    )
}

/// The URL of a server behind a socket, as libpq and tokio-postgres both read it.
pub fn socket_url(socket_dir: &Path, user: &str, database: &str) -> String {
    format!(
        "postgresql://{}@/{}?host={}",
        percent_encoded(user.as_bytes()),
        percent_encoded(database.as_bytes()),
        percent_encoded(socket_dir.as_os_str().as_encoded_bytes()),
    )
}

/// Encodes all but the characters that RFC 3986 calls unreserved.
fn percent_encoded(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::{Config, Host};

    #[test]
    fn the_socket_moves_only_if_its_path_does_not_fit() {
        // "/postgres/run/.s.PGSQL.5432" is 27 bytes.
        let longest = format!("/{}", "x".repeat(107 - 27 - 1));
        let fits = ServerPaths::of(Path::new(&longest));
        assert!(!fits.socket_is_elsewhere());
        assert_eq!(fits.socket().as_os_str().len(), 107);

        let one = ServerPaths::of(Path::new(&format!("{longest}/one")));
        assert!(one.socket_is_elsewhere());
        assert!(one.socket().as_os_str().len() <= 107);
        assert_eq!(one, ServerPaths::of(Path::new(&format!("{longest}/one"))));
        let two = ServerPaths::of(Path::new(&format!("{longest}/two")));
        assert_ne!(one.socket_dir, two.socket_dir);
    }

    #[test]
    fn the_name_of_a_path_never_changes() {
        assert_eq!(stable_name(Path::new("")), "kindler-cbf29ce484222325");
        assert_eq!(stable_name(Path::new("a")), "kindler-af63dc4c8601ec8c");
    }

    #[test]
    fn the_url_names_any_socket_folder_but_one_with_a_comma() {
        assert!(ServerPaths::of(Path::new("/a,b")).socket_is_elsewhere());
        let paths = ServerPaths::of(Path::new("/state folder/ü&?#%"));
        assert!(!paths.socket_is_elsewhere());
        let url = socket_url(&paths.socket_dir, "a@b:c", "kindler/x");
        let config: Config = url.parse().unwrap();
        assert_eq!(config.get_user(), Some("a@b:c"));
        assert_eq!(config.get_dbname(), Some("kindler/x"));
        assert_eq!(config.get_hosts(), [Host::Unix(paths.socket_dir)]);
    }
}
