//! The command line: parsing, declaring, showing, waiting.
//!
//! A command reads from the database and declares in it. It must not act on a
//! cluster, and only `ready` talks to a daemon. Data goes to stdout, progress and
//! errors to stderr. `daemon` implements `serve`, `dev` and `once`.

mod args;
mod declare;
mod doctor;
mod error;
mod events;
mod get;
mod list;
mod logs;
mod outcome;
mod progress;
mod ready;
mod screen;
mod session;
mod spec_args;
mod status;
mod steps;
mod table;
mod text;
mod token;
mod values;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::ErrorKind;

use crate::command::FILE_DEADLINE;
use crate::config::{self, Connection, ConnectionArgs, DaemonArgs, DaemonSettings};
use crate::daemon::{self, DaemonError, DaemonExit};
use crate::metrics;
use crate::store;

use args::{Cli, Command};
use error::CliError;
use screen::Screen;
use session::CliSession;

pub use outcome::Exit;
pub use screen::print_error;

/// Two threads are enough: the daemon mostly waits.
const DAEMON_THREADS: usize = 2;

/// Runs the command in the arguments; the first argument is the program name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().map(config::trimmed_arg).collect();
    let screen = Screen::detect();
    let ended = match parse(&args) {
        Ok(cli) => dispatch(cli, &screen),
        Err(ParseFailure::Clap(error)) => return show_clap(&error, &screen),
        Err(ParseFailure::Config(error)) => Err(error.into()),
    };
    match ended {
        Ok(exit) => exit.into(),
        // A closed pipe, as after `| head`, is not an error.
        Err(error) if error.is_broken_pipe() => Exit::Done.into(),
        Err(error) => {
            print_error(&error, error.hint().as_deref());
            error.exit().into()
        }
    }
}

/// Why the arguments or the settings are invalid.
enum ParseFailure {
    Clap(clap::Error),
    Config(config::ConfigError),
}

fn parse(args: &[OsString]) -> Result<Cli, ParseFailure> {
    let read = |command: clap::Command| {
        let matches = command.try_get_matches_from(args)?;
        Cli::from_arg_matches(&matches)
    };
    match config::layered(args::command(), args) {
        Ok(command) => read(command).map_err(ParseFailure::Clap),
        // Help must work with a broken settings file or variable.
        Err(broken) => match read(args::command()) {
            Ok(cli) if cli.command.needs_no_settings() => Ok(cli),
            Err(error) if !error.use_stderr() => Err(ParseFailure::Clap(error)),
            _ => Err(ParseFailure::Config(broken)),
        },
    }
}

/// Shows help or an error in the arguments. The error repeats arguments, so it is
/// redacted: one of them may be a URL with a password.
fn show_clap(error: &clap::Error, screen: &Screen) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Ignores a closed pipe.
        let _ = error.print();
        return if error.use_stderr() {
            Exit::BadInput.into()
        } else {
            Exit::Done.into()
        };
    }
    let rendered = error.render();
    let text = if screen.stderr_colour {
        rendered.ansi().to_string()
    } else {
        rendered.to_string()
    };
    screen::to_stderr(&text);
    Exit::BadInput.into()
}

fn dispatch(cli: Cli, screen: &Screen) -> Result<Exit, CliError> {
    let connection = &cli.connection;
    match cli.command {
        Command::Dev(args) => {
            let settings = daemon_settings(connection, args)?;
            on_workers(daemon::dev(settings))
        }
        Command::Serve(args) => {
            let settings = daemon_settings(connection, args)?;
            on_workers(daemon::serve(settings))
        }
        Command::Once(args) => {
            let settings = daemon_settings(connection, args)?;
            on_workers(daemon::once(settings))
        }
        Command::Completions { shell } => screen::write_out(&args::completions(shell)),
        Command::SettingsTable => screen::write_out(&config::settings_table()),
        Command::MetricsTable => screen::write_out(&metrics::catalogue::table()),
        Command::SettingsExample => screen::write_out(&config::settings_example()),
        Command::Man { folder } => args::write_manual(&folder)
            .map(|()| Exit::Done)
            .map_err(|source| CliError::Manual { folder, source }),
        Command::Doctor { output } => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(CliError::Runtime)?
            .block_on(doctor::doctor(connection, screen, output)),
        client => {
            let connection = Connection::found(connection)?;
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(CliError::Runtime)?
                .block_on(run_client(client, connection, screen))
        }
    }
}

fn daemon_settings(
    connection: &ConnectionArgs,
    args: Box<DaemonArgs>,
) -> Result<DaemonSettings, CliError> {
    Ok(DaemonSettings::new(Connection::given(connection), *args)?)
}

/// Runs a daemon command on a multi-threaded runtime.
///
/// The command is spawned as a task: run in `block_on`, it would be on the main
/// thread, and every wake-up would cross threads twice.
fn on_workers(
    command: impl Future<Output = Result<DaemonExit, DaemonError>> + Send + 'static,
) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(DAEMON_THREADS)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let ended = runtime
        .block_on(runtime.spawn(command))
        .unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
    // An operation on a file system that does not answer never ends.
    runtime.shutdown_timeout(FILE_DEADLINE);
    Ok(match ended? {
        DaemonExit::Done => Exit::Done,
        DaemonExit::Unconverged => Exit::Failed,
    })
}

async fn run_client(
    command: Command,
    connection: Connection,
    screen: &Screen,
) -> Result<Exit, CliError> {
    // These work without a database.
    let command = match command {
        Command::Logs(args) => return logs::logs(connection, args).await,
        Command::Ready { listen } => return ready::ready(listen).await,
        other => other,
    };
    let session = CliSession::new(connection)?;
    match command {
        Command::Migrate => migrate(&session).await,
        Command::Create(args) => declare::create(&session, screen, args).await,
        Command::Delete(args) => declare::delete(&session, screen, args).await,
        Command::Start(args) => declare::start(&session, screen, args).await,
        Command::Stop(args) => declare::stop(&session, screen, args).await,
        Command::Pause(args) => declare::pause(&session, &args.name).await,
        Command::Resume(args) => declare::resume(&session, screen, args).await,
        Command::Retry(args) => declare::retry(&session, screen, args).await,
        Command::Adopt(args) => declare::adopt(&session, screen, args).await,
        Command::Recreate(args) => declare::recreate(&session, screen, args).await,
        Command::List { output } => list::list(&session, screen, output).await,
        Command::Get { name, output } => get::get(&session, screen, &name, output).await,
        Command::Events(args) => events::events(&session, args).await,
        Command::Status { output } => status::status(&session, screen, output).await,
        Command::Token(command) => token::token(&session, screen, command).await,
        Command::Dev(_)
        | Command::Serve(_)
        | Command::Once(_)
        | Command::Logs(_)
        | Command::Doctor { .. }
        | Command::Ready { .. }
        | Command::Completions { .. }
        | Command::SettingsTable
        | Command::MetricsTable
        | Command::SettingsExample
        | Command::Man { .. } => Ok(Exit::Done),
    }
}

async fn migrate(session: &CliSession) -> Result<Exit, CliError> {
    let report = |reason: &str| screen::remark(&format!("waiting: {reason}; trying again"));
    let migrated = store::migrate_reporting(&session.database, report)
        .await
        .map_err(|source| session.migrate_failed(source))?;
    let version = store::SCHEMA_VERSION;
    let schema = &migrated.schema;
    let applied: Vec<String> = migrated.applied.iter().map(ToString::to_string).collect();
    let mut text = if applied.is_empty() {
        format!("schema {schema} is at version {version} already\n")
    } else {
        format!(
            "schema {schema} is at version {version} (applied {})\n",
            applied.join(", ")
        )
    };
    for restored in &migrated.restored {
        text += &format!("restored: {restored}\n");
    }
    for broken in &migrated.broken {
        screen::remark(&format!(
            "not restored, because rows break it: {broken}; next: mend those rows, then `kindler migrate`"
        ));
    }
    screen::write_out(&text)
}
