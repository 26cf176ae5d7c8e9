//! The database URL of the installed service, for the client commands in a shell: they find
//! it where the service does, in its environment file and its credentials. The service itself
//! gets both from systemd. The content is never shown.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::secret::DatabaseUrl;
use super::url_file;

/// Where the package's units read settings and credentials.
const ENVIRONMENT_FILE: &str = "/etc/default/kindler";
const CREDENTIALS: &str = "/etc/credstore";

/// The credentials, best first: the login of page and API may declare, the daemon's may not.
const CREDENTIAL_NAMES: [&str; 2] = ["kindler.api_database_url", "kindler.database_url"];

/// The settings in the environment file, in the order in which they are used.
const VARIABLES: [&str; 2] = ["KINDLER_API_DATABASE_URL", "KINDLER_DATABASE_URL"];

/// The URL of the service on this host, and its file; none if no service is set up.
pub(super) fn database_url() -> Result<Option<(DatabaseUrl, PathBuf)>, ConfigError> {
    found_in(Path::new(ENVIRONMENT_FILE), Path::new(CREDENTIALS))
}

fn found_in(
    environment: &Path,
    credentials: &Path,
) -> Result<Option<(DatabaseUrl, PathBuf)>, ConfigError> {
    let settings = read(environment)?;
    for name in CREDENTIAL_NAMES {
        match read_url(&credentials.join(name)) {
            // A closed folder may be that of other services.
            Err(_) if settings.is_none() && fs::read_dir(credentials).is_err() => {}
            Err(error) => return Err(error),
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
        }
    }
    let Some(text) = settings else {
        return Ok(None);
    };
    for variable in VARIABLES {
        if let Some(url) = assigned(&text, variable) {
            return Ok(Some((DatabaseUrl::new(&url), environment.to_owned())));
        }
        if let Some(file) = assigned(&text, &format!("{variable}_FILE"))
            && let Some(found) = read_url(Path::new(&file))?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn read_url(path: &Path) -> Result<Option<(DatabaseUrl, PathBuf)>, ConfigError> {
    if read(path)?.is_none() {
        return Ok(None);
    }
    let url = url_file::read(path)?;
    Ok(Some((DatabaseUrl::new(&url), path.to_owned())))
}

/// The text of a file, if it exists.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::InstalledUrl {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The last value of a variable in an environment file of systemd: `NAME=VALUE`, quoted or not.
fn assigned(text: &str, variable: &str) -> Option<String> {
    let value = text.lines().rev().find_map(|line| {
        let (name, value) = line.trim().split_once('=')?;
        (name.trim_end() == variable).then(|| value.trim())
    })?;
    let inside = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    let value = inside('"').or_else(|| inside('\'')).unwrap_or(value);
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(environment: &str, credentials: &[(&str, &str)]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kindler");
        fs::write(&file, environment).unwrap();
        for (name, url) in credentials {
            fs::write(folder.path().join(name), url).unwrap();
        }
        let found = found_in(&file, folder.path()).unwrap();
        found.map(|(url, _)| url.expose().to_owned())
    }

    #[test]
    fn the_login_that_may_declare_comes_before_the_daemons() {
        let daemon = ("kindler.database_url", "postgresql://d@h/k\n");
        let api = ("kindler.api_database_url", "postgresql://a@h/k\n");
        assert_eq!(found("", &[]), None);
        assert_eq!(found("", &[daemon]).as_deref(), Some("postgresql://d@h/k"));
        let both = found("", &[daemon, api]);
        assert_eq!(both.as_deref(), Some("postgresql://a@h/k"));
    }

    #[test]
    fn the_environment_file_is_read_as_systemd_reads_it() {
        let text = "# KINDLER_DATABASE_URL=postgresql://old@h/k\nKINDLER_LOG=debug\n\
                    KINDLER_DATABASE_URL=\"postgresql://d@h/k\"\n";
        assert_eq!(found(text, &[]).as_deref(), Some("postgresql://d@h/k"));
        assert_eq!(found("KINDLER_DATABASE_URL=\n", &[]), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        // A folder in its place cannot be read, for root either.
        let path = folder.path().join("kindler.database_url");
        fs::create_dir(&path).unwrap();
        let error = found_in(&folder.path().join("none"), folder.path()).unwrap_err();
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("as root"));
    }
}
