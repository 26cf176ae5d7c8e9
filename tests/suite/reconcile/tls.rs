//! TLS to the database, on a real server with certificates of the test: when it is used,
//! what is verified, and what is said when it is refused.

use std::error::Error;
use std::fs;

use kindler::core::database::Database as Url;
use kindler::core::database::{Connections, DatabaseUrlError};

use crate::kit::{Certificates, Daemon, Host, PrivateServer, Sql, eventually, parameter};

/// What each user may do.
const HBA: &str = "
local     all all           trust
hostssl   all needs_tls all trust
hostnossl all needs_clear all trust
hostssl   all with_cert all cert
host      all anyhow    all trust
";

/// A server with TLS, and the certificates of its users.
struct TlsServer {
    server: PrivateServer,
    address: String,
    certificates: Certificates,
}

impl TlsServer {
    async fn start() -> Self {
        Self::with_server_certificate("server").await
    }

    /// A server that uses one of the certificates `ca`, `server` (signed by `ca`) and
    /// `other` (another CA).
    async fn with_server_certificate(name: &str) -> Self {
        let certificates = Certificates::new();
        certificates.authority("ca");
        certificates.authority("other");
        certificates.signed("server", "db.test", "ca");
        certificates.signed("client", "with_cert", "ca");
        certificates.signed("foreign", "with_cert", "other");
        let read = |file: &str| fs::read(certificates.path(file)).unwrap();
        let (server, address) = PrivateServer::create_on_address(&[
            ("server.crt", read(&format!("{name}.crt"))),
            ("server.key", read(&format!("{name}.key"))),
            ("ca.crt", read("ca.crt")),
            ("pg_hba.conf", HBA.into()),
        ])
        .await;
        let made = Self {
            server,
            address,
            certificates,
        };
        made.admin(
            "CREATE ROLE needs_tls LOGIN; CREATE ROLE needs_clear LOGIN;
             CREATE ROLE with_cert LOGIN; CREATE ROLE anyhow LOGIN",
        )
        .await;
        made.set("ssl_ca_file", "ca.crt").await;
        made.set("ssl", "on").await;
        made
    }

    async fn admin(&self, statements: &str) {
        let (client, connection) =
            tokio_postgres::connect(&self.server.url("postgres"), tokio_postgres::NoTls)
                .await
                .unwrap();
        tokio::spawn(connection);
        client.run(statements).await;
    }

    /// Changes a setting, and waits until new connections have it.
    async fn set(&self, setting: &str, value: &str) {
        let (client, connection) =
            tokio_postgres::connect(&self.server.url("postgres"), tokio_postgres::NoTls)
                .await
                .unwrap();
        tokio::spawn(connection);
        client
            .run(&format!("ALTER SYSTEM SET {setting} = '{value}'"))
            .await;
        client.run("SELECT pg_reload_conf()").await;
        client.wait_text(&format!("SHOW {setting}"), value).await;
    }

    fn url(&self, user: &str, host: &str, parameters: &[String]) -> String {
        let address = &self.address;
        let url = format!("postgresql://{user}@{host}/postgres?hostaddr={address}");
        [&[url], parameters].concat().join("&")
    }

    fn file(&self, name: &str, file: &str) -> String {
        parameter(name, &self.certificates.path(file))
    }

    /// Whether a connection uses TLS, or why there is none.
    async fn tls(&self, user: &str, parameters: &[String]) -> Result<bool, String> {
        self.tls_to(user, "db.test", parameters).await
    }

    async fn tls_to(&self, user: &str, host: &str, parameters: &[String]) -> Result<bool, String> {
        let database = Url::parse(&self.url(user, host, parameters)).unwrap();
        uses_tls(&database).await
    }
}

async fn uses_tls(database: &Url) -> Result<bool, String> {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let connections = Connections::new(database, 1, "test");
    match connections.rows("test TLS", sql, &[]).await {
        Ok(rows) => Ok(rows[0].get(0)),
        Err(error) => Err(chain(&error)),
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn mode(mode: &str) -> String {
    format!("sslmode={mode}")
}

#[tokio::test]
async fn prefer_is_the_default_and_uses_tls_where_it_works() {
    let server = TlsServer::start().await;
    for parameters in [&[][..], &[mode("prefer")]] {
        assert_eq!(server.tls("anyhow", parameters).await, Ok(true));
        assert_eq!(server.tls("needs_tls", parameters).await, Ok(true));
        assert_eq!(server.tls("needs_clear", parameters).await, Ok(false));
    }
    let (allow, disable) = ([mode("allow")], [mode("disable")]);
    assert_eq!(server.tls("anyhow", &allow).await, Ok(false));
    assert_eq!(server.tls("needs_tls", &allow).await, Ok(true));
    assert_eq!(server.tls("anyhow", &disable).await, Ok(false));

    // The client library knows no version of TLS that is as old.
    server.set("ssl_min_protocol_version", "TLSv1").await;
    server.set("ssl_max_protocol_version", "TLSv1.1").await;
    assert_eq!(server.tls("anyhow", &[]).await, Ok(false));
    server.tls("needs_tls", &[]).await.unwrap_err();

    server.set("ssl", "off").await;
    assert_eq!(server.tls("anyhow", &[]).await, Ok(false));
    let error = server.tls("anyhow", &[mode("require")]).await.unwrap_err();
    assert!(error.contains("the server has no TLS"), "{error}");
}

#[tokio::test]
async fn a_server_is_verified_as_far_as_the_mode_says() {
    let server = TlsServer::start().await;
    let (ca, other) = (
        server.file("sslrootcert", "ca.crt"),
        server.file("sslrootcert", "other.crt"),
    );
    for verifying in ["verify-full", "require", "verify-ca"] {
        let parameters = |root: &str| [mode(verifying), root.to_owned()];
        assert_eq!(server.tls("anyhow", &parameters(&ca)).await, Ok(true));
        for unknown in [&other, "sslrootcert=system"] {
            let error = server
                .tls("anyhow", &parameters(unknown))
                .await
                .unwrap_err();
            assert!(error.contains("name its file with sslrootcert"), "{error}");
        }
    }
    let error = server.tls("anyhow", &[mode("require")]).await.unwrap_err();
    assert!(error.contains("name its file with sslrootcert"), "{error}");

    let to = async |verifying: &str| {
        let parameters = [mode(verifying), ca.clone()];
        server.tls_to("anyhow", "another.test", &parameters).await
    };
    assert_eq!(to("verify-ca").await, Ok(true));
    let error = to("verify-full").await.unwrap_err();
    assert!(error.contains("set sslmode=verify-ca"), "{error}");
}

/// As PostgreSQL's documentation makes one: it signs itself, and clients know it.
#[tokio::test]
async fn a_server_that_signs_itself_is_verified() {
    let server = TlsServer::with_server_certificate("ca").await;
    let ca = server.file("sslrootcert", "ca.crt");
    let parameters = [mode("verify-full"), ca];
    assert_eq!(server.tls("anyhow", &parameters).await, Ok(true));
    let wrong = server.tls_to("anyhow", "another.test", &parameters);
    wrong.await.unwrap_err();
}

#[tokio::test]
async fn a_client_certificate_logs_in_and_is_read_again() {
    let server = TlsServer::start().await;
    let pair = |name: &str| {
        [
            mode("verify-full"),
            server.file("sslrootcert", "ca.crt"),
            server.file("sslcert", &format!("{name}.crt")),
            server.file("sslkey", &format!("{name}.key")),
        ]
    };
    assert_eq!(server.tls("with_cert", &pair("client")).await, Ok(true));
    let error = server.tls("with_cert", &pair("client")[..2]).await;
    let error = error.unwrap_err();
    assert!(error.contains("set sslcert and sslkey"), "{error}");

    let foreign = Url::parse(&server.url("with_cert", "db.test", &pair("foreign"))).unwrap();
    let error = uses_tls(&foreign).await.unwrap_err();
    assert!(
        error.contains("the certificate that sslcert names"),
        "{error}"
    );
    server.certificates.replace("foreign", "client");
    assert_eq!(uses_tls(&foreign).await, Ok(true));
    // Files that are damaged while they are replaced.
    fs::write(server.certificates.path("foreign.crt"), "").unwrap();
    assert_eq!(uses_tls(&foreign).await, Ok(true));
}

#[tokio::test]
async fn a_server_that_accepts_only_tls_names_the_setting() {
    let server = TlsServer::start().await;
    let (host, url) = (
        Host::new(),
        server.url("needs_tls", "db.test", &[mode("disable")]),
    );
    let daemon = Daemon::builder(&url, &host).spawn();
    daemon.wait_not_ready("set sslmode=require").await;
    let (_, code) = crate::kit::kindler_output(&url, &host, &["list"]);
    assert_eq!(code, Some(2));

    // The whole daemon over TLS, with the listener.
    server.admin("ALTER ROLE needs_tls SUPERUSER").await;
    let full = [mode("verify-full"), server.file("sslrootcert", "ca.crt")];
    let url = server.url("needs_tls", "db.test", &full);
    let (migrated, code) = crate::kit::kindler_output(&url, &host, &["migrate"]);
    assert_eq!(code, Some(0), "{migrated}");
    let daemon = Daemon::builder(&url, &host).start().await;
    eventually(crate::kit::TIMEOUT, "the listener", || async {
        daemon.metric("kindler_listen_connected").await == Some(1.0)
    })
    .await;
}

#[test]
fn parameters_that_would_be_ignored_are_refused() {
    for (parameters, expected) in [
        ("sslmode=sometimes", "sslmode is disable, allow"),
        (
            "sslrootcert=/ca.crt",
            "sslrootcert needs sslmode=verify-full",
        ),
        (
            "sslmode=require&sslcert=/a",
            "sslcert and sslkey need each other",
        ),
        ("sslmode=disable&sslcert=/a&sslkey=/b", "other than disable"),
        (
            "sslmode=verify-ca&sslrootcert=/nothing/here",
            "sslrootcert /nothing/here",
        ),
        ("sslnegotiation=direct", "sslnegotiation=direct needs"),
    ] {
        let url = format!("postgresql://u:hunter2@h/d?{parameters}");
        let error = Url::parse(&url).unwrap_err();
        assert!(matches!(error, DatabaseUrlError::Tls(_)), "{error:?}");
        let text = chain(&error);
        assert!(
            text.contains(expected) && !text.contains("hunter2"),
            "{text}"
        );
    }
}
