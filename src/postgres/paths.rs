//! The paths of the embedded Postgres server, and its URL. Touches no files.

use std::env;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// The name of Postgres' socket on the default port, which clients assume.
const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// All but the characters that RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The paths of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerPaths {
    pub home: PathBuf,
    pub data: PathBuf,
    pub log: PathBuf,
    pub socket_dir: PathBuf,
}

impl ServerPaths {
    /// The paths for a state folder, whose own path must be absolute and without links.
    pub fn of(state_dir: &Path) -> Self {
        let home = state_dir.join("postgres");
        let temp = stable_name(state_dir);
        let folders = [home.join("run"), env::temp_dir().join(&temp)];
        let socket_dir = folders.into_iter().find(|folder| can_hold_socket(folder));
        Self {
            data: home.join("data"),
            log: home.join("postgres.log"),
            socket_dir: socket_dir.unwrap_or_else(|| Path::new("/tmp").join(temp)),
            home,
        }
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.socket_dir.join(SOCKET_NAME)
    }
}

/// Whether a socket fits in this folder and a URL can name it: clients read a comma as the end of
/// a host name, and a URL is UTF-8.
fn can_hold_socket(folder: &Path) -> bool {
    let named = folder.to_str().is_some_and(|path| !path.contains(','));
    named && folder.is_absolute() && SocketAddr::from_pathname(folder.join(SOCKET_NAME)).is_ok()
}

/// A name that stands for a path: FNV-1a, 64 bit, which unlike the standard library's hash never
/// changes.
pub(super) fn stable_name(path: &Path) -> String {
    let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = path.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, hash);
    format!("kindler-{hash:016x}")
}

/// The URL of a server behind a socket, as libpq and tokio-postgres both read it.
pub fn socket_url(socket_dir: &Path, user: &str, database: &str) -> String {
    let encoded = |part| percent_encode(part, RESERVED);
    let (user, database) = (encoded(user.as_bytes()), encoded(database.as_bytes()));
    let socket_dir = encoded(socket_dir.as_os_str().as_encoded_bytes());
    format!("postgresql://{user}@/{database}?host={socket_dir}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::{Config, Host};

    #[test]
    fn the_socket_moves_only_if_its_path_does_not_fit() {
        // "/postgres/run/.s.PGSQL.5432" is 27 bytes.
        let longest = format!("/{}", "x".repeat(107 - 27 - 1));
        let of = |path: &str| ServerPaths::of(Path::new(path));
        let fits = of(&longest);
        assert!(fits.socket_dir.starts_with(&fits.home));
        assert_eq!(fits.socket().as_os_str().len(), 107);
        let (one, two) = (of(&format!("{longest}/one")), of(&format!("{longest}/two")));
        assert!(!one.socket_dir.starts_with(&longest));
        assert!(one.socket().as_os_str().len() <= 107);
        assert_ne!(one.socket_dir, two.socket_dir);
        assert_eq!(stable_name(Path::new("a")), "kindler-af63dc4c8601ec8c");
    }

    #[test]
    fn the_url_names_any_socket_folder_but_one_with_a_comma() {
        let of = |path| ServerPaths::of(Path::new(path)).socket_dir;
        assert!(!of("/a,b").starts_with("/a,b"));
        let socket_dir = of("/state folder/ü&?#%");
        let url = socket_url(&socket_dir, "a@b:c", "kindler/x");
        let config: Config = url.parse().unwrap();
        assert_eq!(config.get_user(), Some("a@b:c"));
        assert_eq!(config.get_dbname(), Some("kindler/x"));
        assert_eq!(config.get_hosts(), [Host::Unix(socket_dir)]);
    }
}
