//! TLS to the server: when it is used, and how the server is verified.
//!
//! | `sslmode` | TLS | the server is verified |
//! |---|---|---|
//! | `disable` | never | |
//! | `allow` | if the server refuses the connection without it | no |
//! | `prefer`, the default | if the server has it and it works | no |
//! | `verify-ca` | always | its certificate is signed by a known CA |
//! | `verify-full`, `require` | always | also that the certificate names its host |
//!
//! As libpq, except that `require` verifies the server. A Unix socket never uses TLS. The
//! files are read again for each connection, so that renewed certificates need no restart.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::warn;

use super::parameters::Taken;

/// Why TLS cannot be set up. It contains paths, and nothing else of the URL.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// An unknown `sslmode`.
    #[error("sslmode is disable, allow, prefer, require, verify-ca or verify-full")]
    Mode,
    /// A CA without a mode that verifies.
    #[error("sslrootcert needs sslmode=verify-full or verify-ca: otherwise nothing is verified")]
    RootUnused,
    /// One of two parameters is missing.
    #[error("sslcert and sslkey need each other")]
    HalfPair,
    /// A client certificate that is never sent.
    #[error("sslcert and sslkey need a sslmode other than disable")]
    CertificateUnused,
    /// TLS without the question whether the server has it.
    #[error("sslnegotiation=direct needs sslmode=require, verify-ca or verify-full")]
    Direct,
    /// A file cannot be read, or contains something else.
    #[error("{parameter} {} cannot be used", path.display())]
    File {
        /// `sslrootcert`, `sslcert` or `sslkey`.
        parameter: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The certificates, or the key for them, cannot be used.
    #[error("the certificates cannot be used for TLS")]
    Certificates(#[source] rustls::Error),
}

/// When TLS is used, and what is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsMode {
    Disable,
    Allow,
    Prefer,
    VerifyCa,
    VerifyFull,
}

/// The settings of TLS, and the last configuration that was made of them; cheap to clone.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) mode: TlsMode,
    files: Arc<Files>,
    last: Arc<Mutex<MakeRustlsConnect>>,
}

struct Files {
    /// None: the roots of the operating system.
    root: Option<PathBuf>,
    /// Certificate and key of this client.
    client: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// The settings in the parameters of a URL.
    pub(super) fn parse(parameters: Taken) -> Result<Self, TlsError> {
        let get = |name| {
            let mut named = parameters.iter().rev().filter(|(n, _)| *n == name);
            named.next().map(|(_, value)| value.as_str())
        };
        let mode = match get("sslmode") {
            None | Some("prefer") => TlsMode::Prefer,
            Some("disable") => TlsMode::Disable,
            Some("allow") => TlsMode::Allow,
            Some("verify-ca") => TlsMode::VerifyCa,
            Some("verify-full" | "require") => TlsMode::VerifyFull,
            Some(_) => return Err(TlsError::Mode),
        };
        let verifies = matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
        let root = match get("sslrootcert") {
            Some(_) if !verifies => return Err(TlsError::RootUnused),
            None | Some("system") => None,
            Some(path) => Some(path.into()),
        };
        let client = match (get("sslcert"), get("sslkey")) {
            (None, None) => None,
            (Some(_), Some(_)) if mode == TlsMode::Disable => {
                return Err(TlsError::CertificateUnused);
            }
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (Some(_), None) | (None, Some(_)) => return Err(TlsError::HalfPair),
        };
        let files = Files { root, client };
        let last = Mutex::new(MakeRustlsConnect::new(files.configuration(mode)?));
        Ok(Self {
            mode,
            files: Arc::new(files),
            last: Arc::new(last),
        })
    }

    /// What performs the handshake of one connection.
    pub(super) fn connector(&self) -> MakeRustlsConnect {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.files.root.is_some() || self.files.client.is_some() {
            match self.files.configuration(self.mode) {
                Ok(configuration) => *last = MakeRustlsConnect::new(configuration),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, "using the TLS files as they were before");
                }
            }
        }
        last.clone()
    }

    /// Checks that TLS may be used without asking the server first.
    pub(super) fn check_direct(&self) -> Result<(), TlsError> {
        match self.mode {
            TlsMode::VerifyCa | TlsMode::VerifyFull => Ok(()),
            TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer => Err(TlsError::Direct),
        }
    }

    /// Whether this client sends a certificate.
    pub(super) fn has_certificate(&self) -> bool {
        self.files.client.is_some()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.mode)
    }
}

impl Files {
    fn configuration(&self, mode: TlsMode) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let verifier = match mode {
            TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer => ServerVerifier::none(algorithms),
            TlsMode::VerifyCa => ServerVerifier::of(self.root.as_deref(), false, algorithms)?,
            TlsMode::VerifyFull => ServerVerifier::of(self.root.as_deref(), true, algorithms)?,
        };
        let configuration = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Certificates)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let Some((certificate, key)) = &self.client else {
            return Ok(configuration.with_no_client_auth());
        };
        let chain = certificates("sslcert", certificate)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::File {
            parameter: "sslkey",
            path: key.clone(),
            source,
        })?;
        configuration
            .with_client_auth_cert(chain, key)
            .map_err(TlsError::Certificates)
    }
}

fn certificates(
    parameter: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File {
        parameter,
        path: path.to_owned(),
        source,
    };
    let read = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(failed)?;
    if read.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(read)
}

/// Verifies the server's certificate as far as the mode requires. It always verifies that
/// the server has the key of its certificate.
#[derive(Debug)]
struct ServerVerifier {
    /// None: nothing is verified.
    roots: Option<RootCertStore>,
    /// The certificates of `sslrootcert`. The server may use one of them itself, which as
    /// a CA's could not be a server's.
    given: Vec<CertificateDer<'static>>,
    names_host: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    fn none(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self {
            roots: None,
            given: Vec::new(),
            names_host: false,
            algorithms,
        }
    }

    fn of(
        root: Option<&Path>,
        names_host: bool,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let given = match root {
            Some(path) => certificates("sslrootcert", path)?,
            None => {
                // Ignores a certificate that cannot be read, as long as others can.
                let system = rustls_native_certs::load_native_certs().certs;
                roots.add_parsable_certificates(system);
                Vec::new()
            }
        };
        for certificate in &given {
            let added = roots.add(certificate.clone());
            added.map_err(TlsError::Certificates)?;
        }
        Ok(Self {
            roots: Some(roots),
            given,
            names_host,
            algorithms,
        })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        if !self.given.contains(end_entity) {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        if self.names_host {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
