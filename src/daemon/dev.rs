//! `kindler dev`: an embedded Postgres in the state folder, its schema and roles, and a
//! daemon under its own role; or the daemon on a given database.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::auto_driver;
use super::process::Databases;
use super::serving::run;
use super::startup::start;
use super::{DaemonError, DaemonExit};
use crate::config::{ConfigError, DaemonSettings, DriverKind};
use crate::core::database::Database;
use crate::http;
use crate::postgres::{DATABASE, PostgresServer, socket_url};
use crate::store::{DEV_API, DEV_DAEMON, Migrated, make_dev_roles, migrate};

/// Runs Postgres unless a database is given, migrates, and reconciles until SIGTERM
/// or SIGINT.
///
/// # Errors
/// [`DaemonError`] if waiting cannot help.
pub async fn dev(settings: DaemonSettings) -> Result<DaemonExit, DaemonError> {
    let startup = start(&settings)?;
    let result = run_dev(settings, startup.shutdown).await;
    startup.traces.shutdown().await;
    result
}

async fn run_dev(
    mut settings: DaemonSettings,
    shutdown: CancellationToken,
) -> Result<DaemonExit, DaemonError> {
    let given = match settings.connection.database_url {
        Some(_) => Some(Databases {
            daemon: settings.connection.database()?,
            page: settings.api_database()?,
        }),
        None => None,
    };
    let socket = http::bind(settings.serving.listen).await?;
    if let Some(databases) = given {
        let prepare = prepare_given(&mut settings, &databases.daemon);
        let Some(prepared) = shutdown.run_until_cancelled(prepare).await else {
            return Ok(DaemonExit::Done);
        };
        prepared?;
        return run(settings, databases, socket, shutdown)
            .await
            .map(|()| DaemonExit::Done);
    }
    let bin_dir = settings.embedded.postgres_bin.as_deref();
    let start = PostgresServer::start(&settings.connection.state_dir, bin_dir, true);
    let Some(server) = shutdown.run_until_cancelled(start).await else {
        return Ok(DaemonExit::Done);
    };
    let server = server?;
    let result = on_embedded_postgres(settings, &server, socket, shutdown).await;
    server.stop().await;
    info!("the embedded Postgres has stopped");
    result.map(|()| DaemonExit::Done)
}

async fn prepare_given(
    settings: &mut DaemonSettings,
    database: &Database,
) -> Result<(), DaemonError> {
    let migrated = migrate(database).await?;
    let why = auto_driver::resolve(settings, database).await?;
    print_banner(settings, &migrated, None, why);
    Ok(())
}

async fn on_embedded_postgres(
    mut settings: DaemonSettings,
    server: &PostgresServer,
    socket: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), DaemonError> {
    let prepare = prepare_embedded(&mut settings, server);
    match shutdown.run_until_cancelled(prepare).await {
        Some(databases) => run(settings, databases?, socket, shutdown).await,
        None => Ok(()),
    }
}

async fn prepare_embedded(
    settings: &mut DaemonSettings,
    server: &PostgresServer,
) -> Result<Databases, DaemonError> {
    let admin = Database::parse(&server.admin_url()).map_err(ConfigError::DatabaseUrl)?;
    let migrated = migrate(&admin).await?;
    make_dev_roles(&admin).await?;
    write_private(&settings.connection.dev_url_path(), &server.admin_url()).map_err(|source| {
        DaemonError::System {
            operation: "write the database URL file",
            source,
        }
    })?;
    let why = auto_driver::resolve(settings, &admin).await?;
    print_banner(settings, &migrated, Some(&server.admin_url()), why);
    let login = |role| {
        let url = socket_url(server.socket_dir(), role, DATABASE);
        Database::parse(&url).map_err(ConfigError::DatabaseUrl)
    };
    Ok(Databases {
        daemon: login(DEV_DAEMON)?,
        page: login(DEV_API)?,
    })
}

/// Writes a file that only its owner can read, atomically.
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

/// Prints the banner.
fn print_banner(
    settings: &DaemonSettings,
    migrated: &Migrated,
    embedded: Option<&str>,
    why_driver: Option<String>,
) {
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
        describe_driver(settings.serving.driver)
    ));
    if let Some(why) = why_driver {
        lines.push(format!("             because: {why}"));
    }
    match embedded {
        Some(url) => lines.push(format!("  database   psql '{url}'")),
        None => lines.push(format!("  database   your own, schema {}", migrated.schema)),
    }
    if !migrated.applied.is_empty() {
        lines.push(format!("  migrated   versions {:?}", migrated.applied));
    }
    lines.push(String::new());
    lines.push(match embedded {
        Some(_) => "Try, in another shell:".into(),
        None => "Try, in another shell with the same KINDLER_DATABASE_URL:".into(),
    });
    let prefix = command_prefix(settings);
    lines.push(format!("  {prefix} create demo --wait"));
    lines.push(format!("  {prefix} list"));
    lines.push(format!("  {prefix} delete demo --yes --wait"));
    if settings.serving.driver == DriverKind::Sandbox {
        // Their ports would conflict with a `kindler dev` on another state folder.
        lines.push(String::new());
        lines.push(
            "Sandbox clusters keep running after Ctrl-C and keep their ports: delete them first."
                .into(),
        );
    }
    lines.push(String::new());
    // A closed stdout must not end the daemon.
    let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
}

fn describe_driver(driver: DriverKind) -> &'static str {
    match driver {
        DriverKind::Script => "script: the host's own commands",
        DriverKind::Native => "native: k3d and kind, with the container engine of this host",
        DriverKind::Sandbox | DriverKind::Auto => {
            "sandbox: a background process for each cluster, no Kubernetes"
        }
    }
}

/// The command with which a person calls this binary in another shell, so that it
/// finds this database.
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

/// Quotes a word for a shell, if necessary.
fn for_shell(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
