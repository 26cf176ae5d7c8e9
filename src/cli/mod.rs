//! The commands: parsing, declaring, showing, waiting.
//!
//! A command declares in the database and reads from it; it never touches a
//! cluster and never talks to a daemon. Data goes to stdout, progress and
//! errors to stderr. What a daemon does is `daemon`'s.

mod args;
mod declare;
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

use crate::config::{self, Connection, ConnectionArgs, DaemonArgs, DaemonSettings};
use crate::daemon::{self, DaemonError, Ended};
use crate::metrics;
use crate::store;

use args::{Cli, Command};
use error::CliError;
use screen::Screen;
use session::Session;

pub use outcome::Exit;
pub use screen::tell;

/// The daemon waits far more than it computes.
const DAEMON_THREADS: usize = 2;

/// Runs the command that the arguments name; the first is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let screen = Screen::detect();
    let ended = match parse(&args) {
        Ok(cli) => dispatch(cli, &screen),
        Err(Unparsed::Clap(error)) => return show_clap(&error, &screen),
        Err(Unparsed::Config(error)) => Err(error.into()),
    };
    match ended {
        Ok(exit) => exit.into(),
        // The reader went away, as `head` does: nothing is wrong.
        Err(error) if error.is_broken_pipe() => Exit::Done.into(),
        Err(error) => {
            tell(&error, error.hint().as_deref());
            error.exit().into()
        }
    }
}

/// Why there is no command to run.
enum Unparsed {
    Clap(clap::Error),
    Config(config::ConfigError),
}

fn parse(args: &[OsString]) -> Result<Cli, Unparsed> {
    let read = |command: clap::Command| {
        let matches = command.try_get_matches_from(args)?;
        Cli::from_arg_matches(&matches)
    };
    match config::layered(args::command(), args) {
        Ok(command) => read(command).map_err(Unparsed::Clap),
        // Help must not need what a broken file or variable keeps from working.
        Err(broken) => match read(args::command()) {
            Ok(cli) if cli.command.needs_no_settings() => Ok(cli),
            Err(error) if !error.use_stderr() => Err(Unparsed::Clap(error)),
            _ => Err(Unparsed::Config(broken)),
        },
    }
}

/// Shows help or a mistake in the arguments. The latter repeats arguments, and
/// one of them may be a URL in the wrong place.
fn show_clap(error: &clap::Error, screen: &Screen) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A closed pipe is no failure here either.
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
        client => {
            let connection = Connection::given_or_dev(connection)?;
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

/// Runs a daemon's command to its end, on threads of its own.
///
/// The command is a task like the others: on the thread that only waits here,
/// every wake-up that it hears would cross threads twice.
fn on_workers(
    command: impl Future<Output = Result<Ended, DaemonError>> + Send + 'static,
) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(DAEMON_THREADS)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let ended = runtime
        .block_on(runtime.spawn(command))
        .unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
    Ok(match ended? {
        Ended::Well => Exit::Done,
        Ended::Unconverged => Exit::Failed,
    })
}

async fn run_client(
    command: Command,
    connection: Connection,
    screen: &Screen,
) -> Result<Exit, CliError> {
    // These need no database that is known here.
    let command = match command {
        Command::Logs(args) => return logs::logs(connection, args).await,
        Command::Ready { listen } => return ready::ready(listen).await,
        other => other,
    };
    let session = Session::new(connection)?;
    match command {
        Command::Migrate => migrate(&session).await,
        Command::Create(args) => declare::create(&session, screen, args).await,
        Command::Delete(args) => declare::delete(&session, screen, args).await,
        Command::Start(args) => declare::start(&session, screen, args).await,
        Command::Stop(args) => declare::stop(&session, screen, args).await,
        Command::Pause(args) => declare::pause(&session, &args.name).await,
        Command::Resume(args) => declare::resume(&session, screen, args).await,
        Command::Retry(args) => declare::retry(&session, screen, args).await,
        Command::List { output } => list::list(&session, screen, output).await,
        Command::Get { name, output } => get::get(&session, screen, &name, output).await,
        Command::Events(args) => events::events(&session, args).await,
        Command::Status { output } => status::status(&session, screen, output).await,
        Command::Token(command) => token::token(&session, screen, command).await,
        Command::Dev(_)
        | Command::Serve(_)
        | Command::Once(_)
        | Command::Logs(_)
        | Command::Ready { .. }
        | Command::Completions { .. }
        | Command::SettingsTable
        | Command::MetricsTable
        | Command::SettingsExample
        | Command::Man { .. } => Ok(Exit::Done),
    }
}

async fn migrate(session: &Session) -> Result<Exit, CliError> {
    let migrated = store::migrate(&session.database)
        .await
        .map_err(|source| session.migrate_failed(source))?;
    let version = store::SCHEMA_VERSION;
    let schema = &migrated.schema;
    let applied: Vec<String> = migrated.applied.iter().map(ToString::to_string).collect();
    screen::write_out(&if applied.is_empty() {
        format!("schema {schema} is at version {version} already\n")
    } else {
        format!(
            "schema {schema} is at version {version} (applied {})\n",
            applied.join(", ")
        )
    })
}
