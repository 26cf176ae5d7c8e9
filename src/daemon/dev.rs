//! `kindler dev`: everything from one state folder. A private Postgres, the
//! schema, the roles, then the daemon under its own role; or the same on a
//! database of your own.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::begun::begin;
use super::process::Databases;
use super::serving::run;
use super::{DaemonError, Ended};
use crate::config::{ConfigError, DaemonSettings, DriverKind};
use crate::core::database::Database;
use crate::http;
use crate::postgres::{self, PostgresServer};
use crate::store::{DEV_DAEMON, DEV_PAGE, Migrated, make_dev_roles, migrate};

/// Runs Postgres (unless a database is given), migrates, and reconciles until
/// SIGTERM or SIGINT.
///
/// # Errors
/// [`DaemonError`] for what no waiting mends.
pub async fn dev(settings: DaemonSettings) -> Result<Ended, DaemonError> {
    let begun = begin(&settings)?;
    let ended = playing(settings, begun.shutdown).await;
    begun.traces.end().await;
    ended
}

async fn playing(
    settings: DaemonSettings,
    shutdown: CancellationToken,
) -> Result<Ended, DaemonError> {
    let given = match settings.connection.database_url {
        Some(_) => Some(Databases {
            daemon: settings.connection.database()?,
            page: settings.api_database()?,
        }),
        None => None,
    };
    let socket = http::bind(settings.serving.listen).await?;
    if let Some(databases) = given {
        let migrated = migrate(&databases.daemon).await?;
        announce(&settings, &migrated, None);
        return run(settings, databases, socket, shutdown)
            .await
            .map(|()| Ended::Well);
    }
    let bin_dir = settings.embedded.postgres_bin.as_deref();
    let server = PostgresServer::start(&settings.connection.state_dir, bin_dir, true).await?;
    let ended = on_private_postgres(settings, &server, socket, shutdown).await;
    server.stop().await;
    info!("the private Postgres has stopped");
    ended.map(|()| Ended::Well)
}

async fn on_private_postgres(
    settings: DaemonSettings,
    server: &PostgresServer,
    socket: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), DaemonError> {
    let admin = Database::parse(&server.admin_url()).map_err(ConfigError::DatabaseUrl)?;
    let migrated = migrate(&admin).await?;
    make_dev_roles(&admin).await?;
    write_private(&settings.connection.dev_url_path(), &server.admin_url()).map_err(|source| {
        DaemonError::System {
            operation: "write the database URL file",
            source,
        }
    })?;
    announce(&settings, &migrated, Some(&server.admin_url()));
    let login = |role| {
        let url = server.url(role, postgres::DATABASE);
        Database::parse(&url).map_err(ConfigError::DatabaseUrl)
    };
    let databases = Databases {
        daemon: login(DEV_DAEMON)?,
        page: login(DEV_PAGE)?,
    };
    let lost = shutdown.clone();
    tokio::select! {
        ended = run(settings, databases, socket, shutdown) => ended,
        // It restarts by itself; only when that is given up does this end.
        status = server.exited() => {
            error!(status = ?status, "the private Postgres has ended for good");
            lost.cancel();
            Err(DaemonError::PostgresEnded { log: server.log_path().to_owned() })
        }
    }
}

/// Writes a file that only its owner may read, in one step.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(text.as_bytes())?;
    fs::rename(part, path)
}

/// What a person reads first.
fn announce(settings: &DaemonSettings, migrated: &Migrated, private: Option<&str>) {
    let state = settings.connection.state_dir.display();
    let mut lines = vec![format!(
        "Kindler {} is starting.",
        env!("CARGO_PKG_VERSION")
    )];
    lines.push(format!(
        "  page       http://{}  (also /docs, /readyz, /metrics)",
        settings.serving.listen
    ));
    lines.push(format!("  state      {state}"));
    lines.push(format!(
        "  driver     {}",
        driver_told(settings.serving.driver)
    ));
    match private {
        Some(url) => lines.push(format!("  database   psql '{url}'")),
        None => lines.push(format!("  database   your own, schema {}", migrated.schema)),
    }
    if !migrated.applied.is_empty() {
        lines.push(format!("  migrated   steps {:?}", migrated.applied));
    }
    lines.push(String::new());
    lines.push(match private {
        Some(_) => "Try, in another shell:".into(),
        None => "Try, in another shell with the same KINDLER_DATABASE_URL:".into(),
    });
    let prefix = command_prefix(settings);
    lines.push(format!("  {prefix} create demo --wait"));
    lines.push(format!("  {prefix} list"));
    lines.push(format!("  {prefix} delete demo --yes --wait"));
    if settings.serving.driver == DriverKind::Sandbox {
        // As real clusters do, and their ports surprise whoever starts anew elsewhere.
        lines.push(String::new());
        lines.push(
            "Sandbox clusters go on after Ctrl-C, and hold their ports: delete them first.".into(),
        );
    }
    lines.push(String::new());
    // A closed stdout is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
}

fn driver_told(driver: DriverKind) -> &'static str {
    match driver {
        DriverKind::Script => "script: the host's own commands",
        DriverKind::Sandbox => "sandbox: a background process for each cluster, no Kubernetes",
    }
}

/// How a person calls this binary in another shell, so that it finds this
/// database.
fn command_prefix(settings: &DaemonSettings) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "kindler".into());
    match std::env::var_os("KINDLER_STATE_DIR") {
        Some(_) => {
            let state = settings.connection.state_dir.display().to_string();
            format!("KINDLER_STATE_DIR={} {program}", for_shell(&state))
        }
        None => program,
    }
}

/// A word as a shell reads it back.
fn for_shell(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
