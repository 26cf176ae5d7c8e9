//! The shape of the command line, and its help.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::styling::Styles;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::access::{Scope, TokenName};
use crate::clusters::ClusterName;
use crate::config::{
    ConnectionArgs, DaemonArgs, LISTEN, address, duration_within, for_dev, number_within,
    outside_dev,
};

use super::spec_args::SpecArgs;
use super::values::{ScopeParser, token_life};

const DAY: Duration = Duration::from_secs(24 * 3600);

const AFTER_HELP: &str = "\
Examples:
  kindler dev                      try it: Postgres and daemon in one process
  kindler create demo --wait       declare a cluster and watch it come up
  kindler list                     every cluster: what is wanted, what is, and why
  kindler logs demo -f             follow what the commands for it print
  kindler retry demo               do not wait for the next attempt
  kindler delete demo --wait       declare it absent and wait until it is gone

A setting comes from its flag, else its environment variable, else kindler.toml,
else its default; `kindler serve --help` lists them all. While `kindler dev`
runs, the other commands find its database by themselves.

Exit codes: 0 done; 1 it failed; 2 bad input, unknown name or no database;
3 timed out waiting";

/// The commands of `--help`, as people look for them.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Run", &["dev", "serve", "once", "migrate"]),
    (
        "Declare",
        &[
            "create", "delete", "start", "stop", "pause", "resume", "retry",
        ],
    ),
    (
        "Look",
        &["list", "get", "events", "logs", "status", "ready"],
    ),
    ("Admit", &["token"]),
    ("Shell", &["completions"]),
];

/// Local Kubernetes clusters, declared as rows in Postgres and made real at once
#[derive(Parser)]
#[command(
    name = "kindler",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = AFTER_HELP
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Try it: private Postgres and daemon in one process, nothing to set up
    Dev(Box<DaemonArgs>),
    /// Run the daemon: make clusters what their rows say, until stopped
    Serve(Box<DaemonArgs>),
    /// Make one complete pass and end, for cron: 0 converged, 1 something failed, 2 no database
    Once(Box<DaemonArgs>),
    /// Create the tables, or take over existing ones; running it again changes nothing
    Migrate,
    /// Declare a cluster
    #[command(after_help = "\
Examples:
  kindler create demo
  kindler create demo --provider kind --http-port 18099 --wait --timeout 5m

It only declares, and says so again for a name that is declared already with
the same values. Ports that are left out are the first free ones.")]
    Create(CreateArgs),
    /// Declare a cluster absent: it is removed, and then its row
    Delete(DeleteArgs),
    /// Declare a cluster present, after a stop
    Start(ChangeArgs),
    /// Declare a cluster stopped: nothing of it runs, what exists is kept
    Stop(ChangeArgs),
    /// Only look at a cluster, do not act on it, until resumed
    Pause(NameArgs),
    /// Act on a paused cluster again
    Resume(ChangeArgs),
    /// Try again (or check) at once, with the count of failures started over
    Retry(ChangeArgs),
    /// Show all clusters: what is wanted, what is, and why
    List {
        /// How to show them
        #[arg(short, long, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Show one cluster with everything that is known of it
    Get {
        /// The cluster
        #[arg(value_parser = ClusterName::parse)]
        name: ClusterName,
        /// How to show it
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Show what happened to a cluster, and who did it
    Events(EventsArgs),
    /// Show what the commands for a cluster printed, on the daemon's host
    Logs(LogsArgs),
    /// Tell whether all is well: database, daemons, work, failures
    #[command(
        after_help = "Exit codes: 0 all is well; 1 no daemon that works (none runs, none listens, or \
                      every one stands aside), or something failed or waits; 2 no database"
    )]
    Status {
        /// How to show it
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Ask the daemon on this host whether it is ready: 0 ready, 1 not, and why
    Ready {
        /// The address that it listens on
        #[arg(
            long,
            env = "KINDLER_LISTEN",
            default_value = LISTEN,
            value_name = "IP:PORT",
            value_parser = address
        )]
        listen: SocketAddr,
    },
    /// Make, show and revoke tokens for the API and the page
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  kindler completions bash > ~/.local/share/bash-completion/completions/kindler
  kindler completions zsh  > \"${fpath[1]}/_kindler\"
  kindler completions fish > ~/.config/fish/completions/kindler.fish")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: CompletionShell,
    },
    /// Print the settings as a Markdown table
    #[command(hide = true)]
    SettingsTable,
    /// Print the metrics as Markdown tables
    #[command(hide = true)]
    MetricsTable,
    /// Print an example of kindler.toml, with everything in comments
    #[command(hide = true)]
    SettingsExample,
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man {
        /// The folder, which must be there
        folder: PathBuf,
    },
}

impl Command {
    /// Whether it works the same whatever the settings are.
    pub(super) fn needs_no_settings(&self) -> bool {
        matches!(
            self,
            Self::Completions { .. }
                | Self::SettingsTable
                | Self::MetricsTable
                | Self::SettingsExample
                | Self::Man { .. }
        )
    }
}

#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
pub(super) enum TokenCommand {
    /// Make a token and print it, once, on stdout
    #[command(after_help = "\
Examples:
  kindler token create alice --scope admin
  kindler token create ci --scope write --expires 90d > token

read: everything but keys. write: also declare, change and delete clusters. admin:
also fetch kubeconfigs and see who has tokens. Whoever has the token may log in
with it on the page, or send it as `Authorization: Bearer TOKEN`. It needs the
database URL of the tables' owner, the one that `kindler migrate` is run with.")]
    Create(TokenCreateArgs),
    /// Show all tokens and when each was last used; never the tokens themselves
    List {
        /// How to show them
        #[arg(short, long, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// End a token at once, and every login with it
    Revoke {
        /// The token's name
        #[arg(value_parser = TokenName::parse)]
        name: TokenName,
    },
}

#[derive(Args)]
pub(super) struct TokenCreateArgs {
    /// What the books call whoever uses it: 1 to 63 lower-case letters, digits, '.', '_' or '-'
    #[arg(value_parser = TokenName::parse)]
    pub name: TokenName,
    /// What it may be used for
    #[arg(long, value_parser = ScopeParser)]
    pub scope: Scope,
    /// How long it lives, such as 12h or 30d (1m to 3650d); for ever if left out
    #[arg(long, value_name = "DURATION", value_parser = token_life)]
    pub expires: Option<Duration>,
}

#[derive(Args)]
pub(super) struct NameArgs {
    /// The cluster
    #[arg(value_parser = ClusterName::parse)]
    pub name: ClusterName,
}

#[derive(Args, Clone, Copy)]
pub(super) struct WaitArgs {
    /// Wait until it is done, showing progress: 0 done, 1 failed, 3 still working at the timeout
    #[arg(long)]
    pub wait: bool,
    /// How long to wait (1s to 24h)
    #[arg(
        long,
        requires = "wait",
        default_value = "20m",
        value_name = "DURATION",
        value_parser = duration_within("timeout", Duration::from_secs(1)..=DAY)
    )]
    pub timeout: Duration,
}

impl WaitArgs {
    /// How long to wait, if at all.
    pub(super) fn limit(self) -> Option<Duration> {
        self.wait.then_some(self.timeout)
    }
}

#[derive(Args)]
pub(super) struct ChangeArgs {
    /// The cluster
    #[arg(value_parser = ClusterName::parse)]
    pub name: ClusterName,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Args)]
pub(super) struct DeleteArgs {
    /// The cluster
    #[arg(value_parser = ClusterName::parse)]
    pub name: ClusterName,
    /// Do not ask on a terminal
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Args)]
pub(super) struct CreateArgs {
    /// Its name: 1 to 63 lower-case letters, digits or '-' (k3d: at most 32)
    #[arg(value_parser = ClusterName::parse)]
    pub name: ClusterName,
    #[command(flatten)]
    pub spec: SpecArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Args)]
pub(super) struct EventsArgs {
    /// The cluster; also one that is gone
    #[arg(value_parser = ClusterName::parse)]
    pub name: ClusterName,
    /// Also those of earlier clusters of this name
    #[arg(short, long)]
    pub all: bool,
    /// At most so many, the newest
    #[arg(
        short = 'n',
        long,
        default_value = "50",
        value_name = "N",
        value_parser = number_within("lines", 1_i64..=10_000)
    )]
    pub lines: i64,
    /// Go on as they happen; JSON is then one object a line
    #[arg(short, long)]
    pub follow: bool,
    /// How to show them
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

#[derive(Args)]
pub(super) struct LogsArgs {
    /// The cluster
    #[arg(value_parser = ClusterName::parse)]
    pub name: ClusterName,
    /// At most so many lines, the last
    #[arg(
        short = 'n',
        long,
        default_value = "200",
        value_name = "N",
        value_parser = number_within("lines", 0_usize..=100_000)
    )]
    pub lines: usize,
    /// Go on as they are written
    #[arg(short, long)]
    pub follow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ListOutput {
    Table,
    Wide,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

/// The whole command line with its built-in defaults.
pub(super) fn command() -> clap::Command {
    let command = Cli::command()
        .mut_subcommand("dev", for_dev)
        .mut_subcommand("serve", outside_dev)
        // It serves nothing.
        .mut_subcommand("once", |once| {
            outside_dev(once).mut_arg("listen", |arg| arg.hide(true))
        });
    let template = help_template(&command);
    command.help_template(template)
}

/// The help with its commands in groups, which clap has no means for.
fn help_template(command: &clap::Command) -> String {
    let styles = Styles::default();
    let (header, literal) = (*styles.get_header(), *styles.get_literal());
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for (title, names) in GROUPS {
        let _ = write!(text, "\n{header}{title}:{header:#}\n");
        for subcommand in names
            .iter()
            .filter_map(|name| command.find_subcommand(name))
        {
            let about = subcommand
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            let name = subcommand.get_name();
            let _ = writeln!(text, "  {literal}{name:<12}{literal:#} {about}");
        }
    }
    let _ = write!(
        text,
        "\n{header}Options:{header:#}\n{{options}}{{after-help}}"
    );
    text
}

/// The completion script of a shell.
pub(super) fn completions(shell: CompletionShell) -> String {
    let shell = match shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Zsh => Shell::Zsh,
        CompletionShell::Fish => Shell::Fish,
    };
    // Into memory first: the generator panics when its reader goes away.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "kindler", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes `kindler.1` and a page for each command that help shows.
pub(super) fn write_manual(folder: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(command(), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_command_is_in_one_group_of_the_help() {
        let command = command();
        let mut shown: Vec<_> = command
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
            .map(|c| c.get_name())
            .collect();
        let mut grouped: Vec<_> = GROUPS
            .iter()
            .flat_map(|(_, names)| names.iter().copied())
            .collect();
        shown.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(shown, grouped);
    }
}
