//! The address of the database: URL and TLS.
//!
//! The URL may contain a password, so it is parsed here and never shown: [`Database`]
//! prints only user, hosts and name.

use std::fmt;
use std::future::poll_fn;
use std::time::Duration;

use deadpool_postgres::{Connect, Manager, ManagerConfig};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslNegotiation};
use tokio_postgres::{AsyncMessage, Client, Config, Connection};

use super::tls::{Tls, TlsError};
use super::{NoConnection, hosts, parameters};

/// How long one attempt to connect may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a database URL cannot be used. It never contains the URL.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// It is not a valid URL.
    #[error("database URL is not valid: use postgresql://USER[:PASSWORD]@HOST[:PORT]/NAME")]
    Syntax(#[source] tokio_postgres::Error),
    /// It has the scheme of something else.
    #[error("database URL is not for Postgres: it must start with postgresql://")]
    Scheme,
    /// Most likely the password contains an '@'.
    #[error("database URL is not valid: write '@' in a user name or password as %40")]
    AtSign,
    /// It names no host.
    #[error("database URL names no host: add one, or host=/path/of/the/socket/folder")]
    NoHost,
    /// Its TLS parameters, or the files that they name, cannot be used.
    #[error("database URL: TLS cannot be set up")]
    Tls(#[from] TlsError),
}

/// The address of one Postgres database. Creating it does not connect.
#[derive(Clone)]
pub struct Database {
    config: Config,
    hosts: Vec<Config>,
    tls: Tls,
}

impl Database {
    /// Parses a URL or a list of `key=value` pairs, as libpq does. For TLS see
    /// [`super::tls`]. Of several hosts, the first writable one is used, unless
    /// `target_session_attrs` says otherwise.
    ///
    /// # Errors
    /// [`DatabaseUrlError`], which contains no part of the URL.
    pub fn parse(url: &str) -> Result<Self, DatabaseUrlError> {
        let (rest, tls) = parameters::take(url);
        let mut config: Config = match rest.parse() {
            Ok(config) => config,
            // The parser took it for pairs; its message would be about them.
            Err(_) if url.contains("://") && !url.trim_start().starts_with("postgres") => {
                return Err(DatabaseUrlError::Scheme);
            }
            Err(error) => return Err(DatabaseUrlError::Syntax(error)),
        };
        let looks_like_password = |host: &Host| match host {
            Host::Tcp(name) => name.contains('@'),
            Host::Unix(_) => false,
        };
        if config.get_hosts().iter().any(looks_like_password) {
            return Err(DatabaseUrlError::AtSign);
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(DatabaseUrlError::NoHost);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.keepalives_idle(Duration::from_secs(10));
        if config.get_application_name().is_none() {
            config.application_name("kindler");
        }
        let tls = Tls::parse(tls)?;
        if config.get_ssl_negotiation() == SslNegotiation::Direct {
            tls.check_direct()?;
        }
        let hosts = hosts::each(&config, rest.contains("target_session_attrs"));
        Ok(Self { config, hosts, tls })
    }

    /// Whether a URL or a list of pairs contains a password; false if it is neither.
    pub fn holds_password(url: &str) -> bool {
        let (rest, _) = parameters::take(url);
        rest.parse::<Config>()
            .is_ok_and(|config| config.get_password().is_some())
    }

    /// The password, for redaction in logs and messages.
    pub fn password(&self) -> Option<&[u8]> {
        self.config.get_password()
    }

    /// How long connecting may take, all hosts together.
    pub fn connect_within(&self) -> Duration {
        hosts::within(&self.hosts, CONNECT_TIMEOUT)
    }

    /// Connects, and runs the connection in its own task.
    ///
    /// # Errors
    /// The error of the server or the network; of several hosts, that of the last one.
    pub async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        self.connect_owned().await.map(|(client, _)| client)
    }

    async fn connect_owned(&self) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        // The client reports the end of its connection.
        let (client, connection) = hosts::connect(&self.hosts, &self.tls).await?;
        Ok((client, tokio::spawn(connection.map(drop))))
    }

    /// Why there is no connection, with the setting that a person can change.
    pub fn explain(&self, error: tokio_postgres::Error) -> NoConnection {
        NoConnection::Refused(error).advised(&self.tls)
    }

    /// Connects, and calls `on_message` from the connection's own task for each
    /// asynchronous message of the server. When the connection ends, the task ends with
    /// the reason. `on_message` must not block: the server's notification queue would
    /// fill up.
    ///
    /// # Errors
    /// The error of the server or the network.
    pub async fn connect_listening(
        &self,
        on_message: impl FnMut(AsyncMessage) + Send + 'static,
    ) -> Result<(Client, JoinHandle<Option<tokio_postgres::Error>>), tokio_postgres::Error> {
        let (client, connection) = hosts::connect(&self.hosts, &self.tls).await?;
        Ok((client, tokio::spawn(run_connection(connection, on_message))))
    }

    /// Whether both have the same hosts, ports and database name; the roles may differ.
    pub fn same_server_and_database(&self, other: &Self) -> bool {
        let address = |config: &Config| {
            (
                config.get_hosts().to_owned(),
                config.get_hostaddrs().to_owned(),
                config.get_ports().to_owned(),
                config.get_dbname().map(str::to_owned),
            )
        };
        address(&self.config) == address(&other.config)
    }

    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// The manager that opens the connections of a pool.
    pub(super) fn manager(&self, settings: ManagerConfig) -> Manager {
        Manager::from_connect(self.config.clone(), self.clone(), settings)
    }
}

impl Connect for Database {
    fn connect(
        &self,
        _: &Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        Box::pin(self.connect_owned())
    }
}

async fn run_connection<S, T>(
    mut connection: Connection<S, T>,
    mut on_message: impl FnMut(AsyncMessage),
) -> Option<tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(message)) => on_message(message),
            Some(Err(error)) => return Some(error),
            None => return None,
        }
    }
}

impl fmt::Display for Database {
    /// `user@host:port/name`, with every host and without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(n, host)| match host {
                Host::Tcp(name) => {
                    let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
                    format!("{name}:{port}")
                }
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let user = self.config.get_user().unwrap_or("?");
        let name = self.config.get_dbname().unwrap_or(user);
        write!(f, "{user}@{}/{name}", hosts.join(","))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_prints_without_its_password() {
        let url = "postgresql://kindler:hunter2@db.example:5433,other/fleet?sslmode=disable";
        let database = Database::parse(url).unwrap();
        assert_eq!(
            database.to_string(),
            "kindler@db.example:5433,other:5432/fleet"
        );
        assert!(!format!("{database:?}").contains("hunter2"));
    }

    #[test]
    fn of_several_hosts_a_writable_one_is_required() {
        let attrs = |url: &str| {
            let hosts = Database::parse(url).unwrap().hosts;
            let attrs = hosts.iter().map(Config::get_target_session_attrs);
            (hosts.len(), attrs.collect::<Vec<_>>())
        };
        use tokio_postgres::config::TargetSessionAttrs::{Any, ReadWrite};
        assert_eq!(attrs("postgresql://u@a/d"), (1, vec![Any]));
        assert_eq!(attrs("postgresql://u@a:1,b:2/d"), (2, vec![ReadWrite; 2]));
        let given = "postgresql://u@a,b/d?target_session_attrs=any";
        assert_eq!(attrs(given), (2, vec![Any; 2]));
        let two = Database::parse("postgresql://u:p@a:1,b:2/d?sslmode=disable").unwrap();
        let second = &two.hosts[1];
        assert_eq!(second.get_hosts(), [Host::Tcp("b".into())]);
        assert_eq!(
            (second.get_ports(), second.get_dbname()),
            (&[2][..], Some("d"))
        );
        assert_eq!(second.get_password(), Some(&b"p"[..]));
        assert_eq!(two.connect_within(), Duration::from_secs(7));
    }

    #[test]
    fn errors_do_not_contain_the_url() {
        for bad in [
            "postgresql://u:hunter2@h:notaport/x",
            "hunter2",
            "mysql://u:hunter2@h/x",
            "postgresql://u:hun@ter2@h/x",
            "",
        ] {
            let error = Database::parse(bad).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let text = format!("{error} {source:?}");
            assert!(
                !text.contains("hunter2") && !text.contains("ter2"),
                "{text}"
            );
            assert!(text.contains("database URL"), "{text}");
        }
    }
}
