//! The folder of the server's socket, and the URLs that name it. Touches no files.

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

/// The folder of the socket for a state folder: below it, or in `/tmp` if the path of the socket
/// would be too long, or a URL cannot name it: clients read a comma as the end of a host name, and
/// a URL is UTF-8.
pub(super) fn socket_dir(state_dir: &Path) -> PathBuf {
    let run = state_dir.join("postgres/run");
    let named = run.to_str().is_some_and(|path| !path.contains(','));
    if named && SocketAddr::from_pathname(run.join(SOCKET_NAME)).is_ok() {
        return run;
    }
    Path::new("/tmp").join(stable_name(state_dir))
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
    fn the_socket_moves_only_if_a_client_could_not_find_it() {
        // "/postgres/run/.s.PGSQL.5432" is 27 bytes.
        let longest = format!("/{}", "x".repeat(107 - 27 - 1));
        for (state_dir, moved) in [
            (longest.clone(), false),
            (longest + "x", true),
            ("/a,b".into(), true),
        ] {
            let folder = socket_dir(Path::new(&state_dir));
            assert_eq!(!folder.starts_with(&state_dir), moved, "{folder:?}");
        }
        assert_eq!(stable_name(Path::new("a")), "kindler-af63dc4c8601ec8c");
    }

    #[test]
    fn clients_read_any_socket_folder_from_the_url() {
        let socket_dir = socket_dir(Path::new("/state folder/ü&?#%"));
        let url = socket_url(&socket_dir, "a@b:c", "kindler/x");
        let config: Config = url.parse().unwrap();
        assert_eq!(config.get_user(), Some("a@b:c"));
        assert_eq!(config.get_dbname(), Some("kindler/x"));
        assert_eq!(config.get_hosts(), [Host::Unix(socket_dir)]);
    }
}
