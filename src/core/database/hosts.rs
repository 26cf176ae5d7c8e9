//! Several hosts of one database: tried in order, each for a bounded time, so that a
//! host that accepts the connection and never answers does not block the next one.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::refusal::{is_refused, is_tls};
use super::tls::{Tls, TlsMode};

/// How long one of several hosts may take before the next is tried.
const HOST_WITHIN: Duration = Duration::from_secs(2);

/// The configuration of each host alone. Of several hosts only a writable one is used,
/// unless the URL says otherwise: the others are standbys.
pub(super) fn each(config: &Config, attrs_given: bool) -> Vec<Config> {
    let count = config.get_hosts().len().max(config.get_hostaddrs().len());
    if count < 2 {
        let mut one = config.clone();
        if let ([], [address]) = (config.get_hosts(), config.get_hostaddrs()) {
            // TLS needs a name for the server.
            one.host(address.to_string());
        }
        return vec![one];
    }
    (0..count)
        .map(|n| {
            let mut one = without_hosts(config);
            match config.get_hosts().get(n) {
                Some(Host::Tcp(name)) => drop(one.host(name)),
                Some(Host::Unix(path)) => drop(one.host_path(path)),
                None => {}
            }
            if let Some(address) = config.get_hostaddrs().get(n) {
                one.hostaddr(*address);
                if one.get_hosts().is_empty() {
                    one.host(address.to_string());
                }
            }
            if let Some(port) = config.get_ports().get(n).or(config.get_ports().first()) {
                one.port(*port);
            }
            if !attrs_given {
                one.target_session_attrs(TargetSessionAttrs::ReadWrite);
            }
            one
        })
        .collect()
}

fn without_hosts(config: &Config) -> Config {
    let mut one = Config::new();
    config.get_user().map(|user| one.user(user));
    config.get_password().map(|password| one.password(password));
    config.get_dbname().map(|name| one.dbname(name));
    config.get_options().map(|options| one.options(options));
    config
        .get_application_name()
        .map(|name| one.application_name(name));
    config
        .get_connect_timeout()
        .map(|within| one.connect_timeout(*within));
    config
        .get_tcp_user_timeout()
        .map(|within| one.tcp_user_timeout(*within));
    config
        .get_keepalives_interval()
        .map(|pause| one.keepalives_interval(pause));
    config
        .get_keepalives_retries()
        .map(|count| one.keepalives_retries(count));
    one.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts())
        .target_session_attrs(config.get_target_session_attrs());
    one
}

/// How long connecting may take, if the last host may take `alone`.
pub(super) fn within(hosts: &[Config], alone: Duration) -> Duration {
    let others = u32::try_from(hosts.len().saturating_sub(1)).unwrap_or(u32::MAX);
    HOST_WITHIN.saturating_mul(others).saturating_add(alone)
}

type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
pub(super) type Connected = (Client, Connection<Socket, Stream>);

/// Connects to the first host that accepts. The caller bounds the time of the last one.
pub(super) async fn connect(hosts: &[Config], tls: &Tls) -> Result<Connected, Error> {
    let (last, first) = hosts
        .split_last()
        .expect("a URL without a host is rejected");
    for host in first {
        // Only the error of the last host is reported.
        if let Ok(Ok(connected)) = timeout(HOST_WITHIN, connect_to(host, tls)).await {
            return Ok(connected);
        }
    }
    connect_to(last, tls).await
}

/// Connects to one host, with or without TLS, or with both in turn.
async fn connect_to(host: &Config, tls: &Tls) -> Result<Connected, Error> {
    let (first, second) = match tls.mode {
        _ if matches!(host.get_hosts(), [Host::Unix(_)]) => (SslMode::Disable, None),
        TlsMode::Disable => (SslMode::Disable, None),
        TlsMode::Allow => (SslMode::Disable, Some(SslMode::Require)),
        TlsMode::Prefer => (SslMode::Prefer, Some(SslMode::Disable)),
        TlsMode::VerifyCa | TlsMode::VerifyFull => (SslMode::Require, None),
    };
    let attempt = async |mode| host.clone().ssl_mode(mode).connect(tls.connector()).await;
    let refused = match attempt(first).await {
        Ok(connected) => return Ok(connected),
        Err(error) => error,
    };
    let second = second.filter(|_| is_refused(&refused) || is_tls(&refused));
    let Some(second) = second else {
        return Err(refused);
    };
    match attempt(second).await {
        // Of two refusals the first is that of the preferred way.
        Err(again) if is_refused(&again) => Err(refused),
        ended => ended,
    }
}
