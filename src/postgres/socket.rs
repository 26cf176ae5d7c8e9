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

/// The folder of the socket: in the state folder, or in `/tmp` if clients could not use that path.
/// It must fit in a socket's address, a URL is UTF-8, and clients read a comma as the end of a host
/// name.
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
    fn clients_find_the_socket_of_any_state_folder_by_its_url() {
        let long = format!("/{}", "x".repeat(107 - "/postgres/run/.s.PGSQL.5432".len()));
        for (state_dir, moved) in [
            ("/state folder/ü&?#%", false),
            ("/a,b", true),
            (&long, true),
        ] {
            let folder = socket_dir(Path::new(state_dir));
            assert_eq!(!folder.starts_with(state_dir), moved, "{folder:?}");
            let config: Config = socket_url(&folder, "a@b:c", "kindler/x").parse().unwrap();
            assert_eq!(config.get_user(), Some("a@b:c"));
            assert_eq!(config.get_dbname(), Some("kindler/x"));
            assert_eq!(config.get_hosts(), [Host::Unix(folder)]);
        }
        let longest = Path::new(&long[..long.len() - 1]);
        assert!(socket_dir(longest).starts_with(longest));
        assert_eq!(stable_name(Path::new("a")), "kindler-af63dc4c8601ec8c");
    }
}
