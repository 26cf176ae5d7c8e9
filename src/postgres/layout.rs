//! Where everything of the embedded Postgres lies, and how to speak of it in a URL.
//!
//! All of it is below the state folder, except that the socket moves to the temp folder when its
//! path would be too long for a Unix socket. This module computes paths; it must not touch them.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The longest path of a Unix socket on Linux, in bytes: `sun_path` without its final NUL.
const LONGEST_SOCKET_PATH: usize = 107;

/// The name Postgres gives its socket on the default port, which clients assume.
const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// The paths of one embedded Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The folder that belongs to one Kindler.
    pub state_dir: PathBuf,
    /// `postgres` in it, with all that follows.
    pub home: PathBuf,
    /// The data folder.
    pub data: PathBuf,
    /// A data folder in the making; renamed to `data` when it is whole.
    pub unfinished_data: PathBuf,
    /// What the server says.
    pub log: PathBuf,
    /// The private folder with the socket.
    pub socket_dir: PathBuf,
}

impl Layout {
    /// The layout for a state folder, whose path must be absolute and without links.
    pub fn of(state_dir: &Path) -> Self {
        let home = state_dir.join("postgres");
        let run = home.join("run");
        Self {
            state_dir: state_dir.into(),
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

    /// The file beside the socket that names the server's process.
    pub fn socket_lock(&self) -> PathBuf {
        self.socket_dir.join(format!("{SOCKET_NAME}.lock"))
    }

    /// The file in the data folder that names the server's process.
    pub fn pid_file(&self) -> PathBuf {
        self.data.join("postmaster.pid")
    }

    /// Whether the socket had to move out of the state folder.
    pub fn socket_is_elsewhere(&self) -> bool {
        !self.socket_dir.starts_with(&self.home)
    }
}

/// Whether a socket fits in this folder, and clients can be told of it: they read a comma as the
/// end of a host name, and a URL holds UTF-8.
fn can_hold_socket(folder: &Path) -> bool {
    let length = folder.as_os_str().len() + 1 + SOCKET_NAME.len();
    length <= LONGEST_SOCKET_PATH && folder.to_str().is_some_and(|path| !path.contains(','))
}

/// A folder in the temp folder that is the same at every start with this state folder.
fn private_temp_dir(state_dir: &Path) -> PathBuf {
    let name = format!("kindler-{:016x}", stable_hash(state_dir));
    let preferred = env::temp_dir().join(&name);
    if preferred.is_absolute() && can_hold_socket(&preferred) {
        preferred
    } else {
        Path::new("/tmp").join(name)
    }
}

/// The name by which the server's processes show themselves in `ps`; it tells one data folder
/// from another.
pub(super) fn cluster_name(data_dir: &Path) -> String {
    format!("kindler-{:016x}", stable_hash(data_dir))
}

/// FNV-1a, 64 bit: unlike the standard library's hash it never changes.
fn stable_hash(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

/// A URL for the server behind a socket, as libpq and tokio-postgres both read it.
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
    fn the_socket_stays_in_the_state_folder_while_its_path_fits() {
        // "/postgres/run/.s.PGSQL.5432" is 27 bytes.
        let fits = format!("/{}", "x".repeat(107 - 27 - 1));
        let layout = Layout::of(Path::new(&fits));
        assert!(!layout.socket_is_elsewhere());
        assert_eq!(layout.socket().as_os_str().len(), 107);

        let too_long = Layout::of(Path::new(&format!("{fits}x")));
        assert!(too_long.socket_is_elsewhere());
        assert!(too_long.socket().as_os_str().len() <= 107);
    }

    #[test]
    fn a_moved_socket_folder_is_the_same_every_time_and_differs_between_states() {
        let long = "x".repeat(200);
        let one = Layout::of(Path::new(&format!("/{long}/one")));
        assert_eq!(one, Layout::of(Path::new(&format!("/{long}/one"))));
        assert_ne!(
            one.socket_dir,
            Layout::of(Path::new(&format!("/{long}/two"))).socket_dir
        );
        assert_eq!(stable_hash(Path::new("")), 0xcbf2_9ce4_8422_2325);
        assert_eq!(stable_hash(Path::new("a")), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn a_path_that_no_url_could_name_moves_the_socket() {
        assert!(Layout::of(Path::new("/state,folder")).socket_is_elsewhere());
        assert!(!Layout::of(Path::new("/state folder/ü&?#%")).socket_is_elsewhere());
    }

    #[test]
    fn the_url_is_read_back_as_it_was_meant() {
        let socket_dir = Path::new("/state folder/ü&?#%/run");
        let config: Config = socket_url(socket_dir, "a@b:c", "kindler/x")
            .parse()
            .unwrap();
        assert_eq!(config.get_user(), Some("a@b:c"));
        assert_eq!(config.get_dbname(), Some("kindler/x"));
        assert_eq!(config.get_hosts(), [Host::Unix(socket_dir.into())]);
    }
}
