//! The private kubeconfig of a cluster: one file, which only Kindler's user may read. The health
//! of a cluster never depends on a user's own file.
//!
//! No error contains a part of a kubeconfig, because it gives full access.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

/// Why there is no usable kubeconfig.
#[derive(Debug, thiserror::Error)]
pub(super) enum KubeconfigFault {
    #[error("there is no kubeconfig at {}", .0.display())]
    Missing(PathBuf),
    #[error("the kubeconfig {} cannot be {operation}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Without the text of the parser, which quotes its input.
    #[error("the kubeconfig {0} is not that of a cluster: {1}")]
    Content(String, &'static str),
}

/// How to reach an API server, and the credentials of its administrator.
pub(super) struct ClusterAccess {
    /// The host's port.
    pub port: u16,
    pub authority: Vec<u8>,
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

#[derive(Deserialize)]
struct File {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: ClusterEntry,
}

#[derive(Deserialize)]
struct ClusterEntry {
    server: String,
    #[serde(rename = "certificate-authority-data")]
    authority: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    user: UserEntry,
}

#[derive(Deserialize)]
struct UserEntry {
    #[serde(rename = "client-certificate-data")]
    certificate: Option<String>,
    #[serde(rename = "client-key-data")]
    key: Option<String>,
}

/// Reads the access from a file.
pub(super) fn read(path: &Path) -> Result<ClusterAccess, KubeconfigFault> {
    let text = text(path)?;
    parse(&text, &path.display().to_string())
}

/// The text of a file.
pub(super) fn text(path: &Path) -> Result<String, KubeconfigFault> {
    fs::read_to_string(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => KubeconfigFault::Missing(path.to_owned()),
        _ => KubeconfigFault::File {
            operation: "read",
            path: path.to_owned(),
            source,
        },
    })
}

/// Checks a tool's output, and writes it with the address of the host's port, as a whole.
pub(super) fn write(path: &Path, printed: &str, port: u16) -> Result<(), KubeconfigFault> {
    let text = with_address(printed, port)
        .ok_or_else(|| KubeconfigFault::Content("that the tool printed".into(), "no server"))?;
    parse(&text, "that the tool printed")?;
    let failed = |operation| {
        move |source| KubeconfigFault::File {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    let part = path.with_extension("part");
    let _ = fs::remove_file(&part);
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&part);
    let mut file = file.map_err(failed("created"))?;
    file.write_all(text.as_bytes()).map_err(failed("written"))?;
    fs::rename(&part, path).map_err(failed("replaced"))
}

/// The same kubeconfig for this host: k3d prints `0.0.0.0`, which is no address to connect to.
fn with_address(printed: &str, port: u16) -> Option<String> {
    let mut found = false;
    let lines = printed
        .lines()
        .map(|line| match line.split_once("server: https://") {
            Some((before, _)) => {
                found = true;
                format!("{before}server: https://127.0.0.1:{port}\n")
            }
            None => format!("{line}\n"),
        });
    let text: String = lines.collect();
    found.then_some(text)
}

fn parse(text: &str, whose: &str) -> Result<ClusterAccess, KubeconfigFault> {
    let fault = |why| KubeconfigFault::Content(whose.to_owned(), why);
    let file: File = serde_saphyr::from_str(text).map_err(|_| fault("it cannot be parsed"))?;
    let cluster = file
        .clusters
        .into_iter()
        .next()
        .ok_or_else(|| fault("no cluster"))?
        .cluster;
    let user = file
        .users
        .into_iter()
        .next()
        .ok_or_else(|| fault("no user"))?
        .user;
    let port = cluster
        .server
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let decoded = |data: Option<String>, missing: &'static str| {
        let data = data.and_then(|data| BASE64_STANDARD.decode(data.trim()).ok());
        data.ok_or_else(|| fault(missing))
    };
    Ok(ClusterAccess {
        port: port.ok_or_else(|| fault("its server has no port"))?,
        authority: decoded(cluster.authority, "no certificate-authority-data")?,
        certificate: decoded(user.certificate, "no client-certificate-data")?,
        key: decoded(user.key, "no client-key-data")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const PRINTED: &str = "apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    \
        certificate-authority-data: Q0E=\n    server: https://0.0.0.0:41523\n  name: k3d-dev\n\
        users:\n- name: admin@k3d-dev\n  user:\n    client-certificate-data: Q0VSVA==\n    \
        client-key-data: S0VZ\n";

    #[test]
    fn the_file_is_private_and_names_an_address_of_this_host() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        assert!(matches!(read(&path), Err(KubeconfigFault::Missing(_))));
        for port in [41523, 41524] {
            write(&path, PRINTED, port).unwrap();
            let access = read(&path).unwrap();
            assert_eq!((access.port, access.key.as_slice()), (port, &b"KEY"[..]));
        }
        let text = text(&path).unwrap();
        assert!(
            text.contains("    server: https://127.0.0.1:41524\n"),
            "{text}"
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn an_incomplete_kubeconfig_is_rejected_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        for text in [
            "",
            "S0VZ",
            &PRINTED[..PRINTED.len() - 20],
            "server: https://x\nkey: S0VZ",
        ] {
            let error = write(&path, text, 1).unwrap_err();
            let error = crate::cause::chain(&error);
            assert!(!error.contains("S0VZ"), "{error}");
        }
        assert!(!path.exists());
    }
}
