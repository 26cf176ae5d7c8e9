//! Where files are when nobody says: the config file, the state folder, the
//! URL that a running `kindler dev` leaves.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::secret::DatabaseUrl;

/// The state folder: the system's for root, else one of the user's.
pub(super) fn state_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/kindler");
    }
    user_dir("XDG_STATE_HOME", ".local/state")
        .map_or_else(|| PathBuf::from(".kindler"), |dir| dir.join("kindler"))
}

/// The config files that are looked for, in order; the first that exists counts.
pub(super) fn config_files() -> Vec<PathBuf> {
    let own = user_dir("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("kindler/kindler.toml"));
    [PathBuf::from("kindler.toml")]
        .into_iter()
        .chain(own)
        .chain([PathBuf::from("/etc/kindler/kindler.toml")])
        .collect()
}

/// A folder of the XDG base directories; a relative one is to be ignored.
fn user_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}

/// The URL that a `kindler dev` left at `path`, if there is one.
pub(super) fn read_url(path: &Path) -> Result<Option<DatabaseUrl>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim())
            .filter(|t| !t.is_empty())
            .map(DatabaseUrl::new)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::DevUrl {
            path: path.to_owned(),
            source,
        }),
    }
}
