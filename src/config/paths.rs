//! Default paths: the settings file and the state folder. Also reads the URL file of
//! `kindler dev`.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::secret::DatabaseUrl;

/// The state folder: `/var/lib/kindler` for root, else a folder of the user.
pub(super) fn state_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/kindler");
    }
    user_dir("XDG_STATE_HOME", ".local/state")
        .map_or_else(|| PathBuf::from(".kindler"), |dir| dir.join("kindler"))
}

/// The default settings files, in order; the first that exists is used.
pub(super) fn config_files() -> Vec<PathBuf> {
    let own = user_dir("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("kindler/kindler.toml"));
    [PathBuf::from("kindler.toml")]
        .into_iter()
        .chain(own)
        .chain([PathBuf::from("/etc/kindler/kindler.toml")])
        .collect()
}

/// An XDG base directory. The standard says to ignore a relative one.
fn user_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}

/// The URL in the file that `kindler dev` wrote, if the file exists.
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
