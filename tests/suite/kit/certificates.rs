//! Certificates of a test, made by the program `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::run_folder;

/// A folder with the certificates and keys of one test: `NAME.crt` and `NAME.key`.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("certificates-")
            .tempdir_in(run_folder())
            .unwrap();
        Self { folder }
    }

    /// The path of a file, such as `ca.crt`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A CA that signs itself, and may be the certificate of the host `db.test`.
    pub fn authority(&self, name: &str) {
        self.openssl(&format!(
            "req -x509 {NEW_KEY} -keyout {name}.key -out {name}.crt -days 9 -subj /CN={name} \
             -addext subjectAltName=DNS:db.test"
        ));
    }

    /// A certificate with this common name for the host `db.test`, signed by a CA.
    pub fn signed(&self, name: &str, common_name: &str, authority: &str) {
        self.signed_for(name, common_name, "db.test", authority);
    }

    /// The same for another host.
    pub fn signed_for(&self, name: &str, common_name: &str, host: &str, authority: &str) {
        let alternative = format!("subjectAltName=DNS:{host}\n");
        fs::write(self.path("extensions"), alternative).unwrap();
        self.openssl(&format!(
            "req -new {NEW_KEY} -keyout {name}.key -out {name}.csr -subj /CN={common_name}"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial \
             -days 9 -extfile extensions -out {name}.crt"
        ));
    }

    /// Copies certificate and key over those of another name.
    pub fn replace(&self, old: &str, new: &str) {
        for kind in ["crt", "key"] {
            let of = |name: &str| self.path(&format!("{name}.{kind}"));
            fs::copy(of(new), of(old)).unwrap();
        }
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .expect("run openssl");
        assert!(output.status.success(), "openssl {arguments}: {output:?}");
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// As a parameter of a URL.
pub fn parameter(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}
