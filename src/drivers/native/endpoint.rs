//! Finds where the container engine is, as the `docker` command does: `DOCKER_HOST`, else the
//! context of `DOCKER_CONTEXT` or of its configuration, else the standard socket. The tools run
//! that command or do the same, so that all of them use one engine. It connects to nothing.

use std::fs;
use std::path::{Path, PathBuf};

use bollard::{API_DEFAULT_VERSION, Docker};
use serde::Deserialize;
use sha2::{Digest, Sha256};

const STANDARD_SOCKET: &str = "unix:///var/run/docker.sock";

/// The context without a name of its own.
const DEFAULT_CONTEXT: &str = "default";

/// How long an answer may take, in seconds, as with the other addresses; a request has a shorter
/// deadline of its own.
const SECONDS: u64 = 120;

/// The address of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    host: String,
    /// The folder of the certificates of a context.
    tls: Option<PathBuf>,
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EndpointError {
    #[error("the docker context {name} cannot be read ({})", file.display())]
    Context { name: String, file: PathBuf },
    #[error("the docker context {0} does not check certificates (SkipTLSVerify)")]
    Unchecked(String),
    #[error("{0} is not the address of a container engine: unix://, tcp:// and https:// are")]
    Scheme(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextFile {
    endpoints: ContextEndpoints,
}

#[derive(Deserialize)]
struct ContextEndpoints {
    docker: ContextEndpoint,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextEndpoint {
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

impl Endpoint {
    /// The address that the environment and the files name now.
    pub fn current() -> Result<Self, EndpointError> {
        Self::of(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of(env: impl Fn(&str) -> Option<String>) -> Result<Self, EndpointError> {
        let at = |host: String| Self { host, tls: None };
        if let Some(host) = env("DOCKER_HOST") {
            return at(host).checked();
        }
        let home = || Some(PathBuf::from(env("HOME")?).join(".docker"));
        let Some(folder) = env("DOCKER_CONFIG").map(PathBuf::from).or_else(home) else {
            return Ok(at(STANDARD_SOCKET.to_owned()));
        };
        match env("DOCKER_CONTEXT").or_else(|| current_context(&folder)) {
            Some(name) if name != DEFAULT_CONTEXT => of_context(&name, &folder)?.checked(),
            _ => Ok(at(STANDARD_SOCKET.to_owned())),
        }
    }

    fn checked(self) -> Result<Self, EndpointError> {
        let schemes = ["unix://", "tcp://", "http://", "https://"];
        if schemes.iter().any(|scheme| self.host.starts_with(scheme)) {
            return Ok(self);
        }
        Err(EndpointError::Scheme(self.host))
    }

    /// A client of this engine. It connects at its first request.
    pub fn client(&self) -> Result<Docker, bollard::errors::Error> {
        match &self.tls {
            Some(folder) => Docker::connect_with_ssl(
                &self.host,
                &folder.join("key.pem"),
                &folder.join("cert.pem"),
                &folder.join("ca.pem"),
                SECONDS,
                API_DEFAULT_VERSION,
            ),
            None => Docker::connect_with_host(&self.host),
        }
    }
}

fn current_context(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("config.json")).ok()?;
    let config: ConfigFile = serde_json::from_str(&text).ok()?;
    config.current_context.filter(|name| !name.is_empty())
}

/// The name of a context's folders.
fn context_id(name: &str) -> String {
    let hash = Sha256::digest(name.as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_context(name: &str, folder: &Path) -> Result<Endpoint, EndpointError> {
    let id = context_id(name);
    let contexts = folder.join("contexts");
    let file = contexts.join("meta").join(&id).join("meta.json");
    let read = fs::read_to_string(&file).ok();
    let context: Option<ContextFile> = read.and_then(|text| serde_json::from_str(&text).ok());
    let Some(ContextFile { endpoints }) = context else {
        let name = name.to_owned();
        return Err(EndpointError::Context { name, file });
    };
    if endpoints.docker.skip_tls_verify {
        return Err(EndpointError::Unchecked(name.to_owned()));
    }
    let tls = contexts.join("tls").join(id).join("docker");
    Ok(Endpoint {
        host: endpoints.docker.host,
        tls: tls.exists().then_some(tls),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address for these variables.
    fn of(variables: &[(&str, &str)]) -> Result<Endpoint, EndpointError> {
        Endpoint::of(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn host(variables: &[(&str, &str)]) -> String {
        of(variables).unwrap().host
    }

    /// A configuration with a context, as `docker context create` writes it.
    fn with_context(name: &str, meta: &str, current: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("contexts/meta").join(context_id(name));
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("meta.json"), meta).unwrap();
        let config = format!(r#"{{"auths": {{}}, "currentContext": "{current}"}}"#);
        fs::write(folder.path().join("config.json"), config).unwrap();
        folder
    }

    const ROOTLESS: &str = r#"{"Name": "rootless", "Metadata": {}, "Endpoints": {"docker":
        {"Host": "unix:///run/user/1000/docker.sock", "SkipTLSVerify": false}}}"#;

    #[test]
    fn variables_come_before_the_context_in_use() {
        let folder = with_context("rootless", ROOTLESS, "rootless");
        let config = folder.path().to_str().unwrap();
        let of_context = "unix:///run/user/1000/docker.sock";
        assert_eq!(host(&[("DOCKER_CONFIG", config)]), of_context);
        assert_eq!(
            host(&[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "default")]),
            STANDARD_SOCKET
        );
        let both = [("DOCKER_CONFIG", config), ("DOCKER_HOST", "tcp://h:2375")];
        assert_eq!(host(&both), "tcp://h:2375");
        assert_eq!(host(&[]), STANDARD_SOCKET);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let unchecked = ROOTLESS.replace("false", "true");
        let folder = with_context("rootless", &unchecked, "other");
        let config = folder.path().to_str().unwrap();
        let missing = of(&[("DOCKER_CONFIG", config)]).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("the docker context other cannot be read")
        );
        let named = of(&[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "rootless")]);
        assert_eq!(named, Err(EndpointError::Unchecked("rootless".into())));
        let ssh = of(&[("DOCKER_HOST", "ssh://me@host")]).unwrap_err();
        assert!(
            ssh.to_string()
                .starts_with("ssh://me@host is not the address")
        );
    }
}
