//! Selects the environment variables of a command: a short list, never the daemon's secrets.
//! This module does not read the process environment; the caller passes it in.

use std::ffi::OsString;

/// Variables that commands inherit from the daemon; a final `*` matches any suffix.
pub const PASSED_ENV: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_*",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "KUBECONFIG",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "K3D_*",
    "KIND_*",
    "PROVIDER",
    "PROVIDER_*",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSH_AUTH_SOCK",
];

/// Variables that no command gets, even if a setting names them: they give access to the database
/// as the daemon.
pub const WITHHELD_ENV: &[&str] = &[
    "KINDLER_DATABASE_URL",
    "KINDLER_DATABASE_URL_FILE",
    "KINDLER_API_DATABASE_URL",
    "KINDLER_API_DATABASE_URL_FILE",
    "CREDENTIALS_DIRECTORY",
    "DATABASE_URL",
    "PG*",
];

/// The variable with the ID of a run. Every process of the run inherits it, which identifies the
/// processes that are left after the guard was killed.
pub const RUN_ID: &str = "KINDLER_RUN";

/// The variables of `all` that a command gets: those of [`PASSED_ENV`] and `also`, but none of
/// [`WITHHELD_ENV`].
pub(super) fn passed(
    all: impl Iterator<Item = (OsString, OsString)>,
    also: &[String],
) -> Vec<(OsString, OsString)> {
    all.filter(|(name, _)| {
        // A name that is not UTF-8 matches no list.
        name.to_str().is_some_and(|name| may_pass(name, also))
    })
    .collect()
}

fn may_pass(name: &str, also: &[String]) -> bool {
    let named = PASSED_ENV
        .iter()
        .copied()
        .chain(also.iter().map(String::as_str));
    !is_withheld(name) && named.into_iter().any(|pattern| matches(pattern, name))
}

/// Whether no command gets this variable.
pub(super) fn is_withheld(name: &str) -> bool {
    WITHHELD_ENV.iter().any(|pattern| matches(pattern, name))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::passed;

    fn names(of: &[&str], also: &[&str]) -> Vec<String> {
        let all = of
            .iter()
            .map(|name| (OsString::from(name), OsString::from("x")));
        let also: Vec<String> = also.iter().map(|name| (*name).to_owned()).collect();
        passed(all, &also)
            .into_iter()
            .map(|(name, _)| name.into_string().unwrap())
            .collect()
    }

    #[test]
    fn only_listed_variables_are_passed() {
        let all = [
            "PATH",
            "LC_ALL",
            "K3D_IMAGE",
            "PROVIDER",
            "PROVIDER_DEV",
            "SECRET",
            "PATHS",
        ];
        assert_eq!(
            names(&all, &[]),
            ["PATH", "LC_ALL", "K3D_IMAGE", "PROVIDER", "PROVIDER_DEV"]
        );
    }

    #[test]
    fn variables_named_by_a_setting_are_passed() {
        assert_eq!(
            names(&["BASE_DOMAIN", "OTHER"], &["BASE_DOMAIN"]),
            ["BASE_DOMAIN"]
        );
    }

    #[test]
    fn database_credentials_are_never_passed() {
        let secrets = [
            "KINDLER_DATABASE_URL",
            "KINDLER_API_DATABASE_URL",
            "CREDENTIALS_DIRECTORY",
            "DATABASE_URL",
            "PGPASSWORD",
            "PGHOST",
        ];
        assert_eq!(names(&secrets, &secrets), [""; 0]);
        assert_eq!(names(&secrets, &["*"]), [""; 0]);
    }
}
