//! The definition of the command line, and its help.

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
use super::values::{ScopeParser, token_lifetime};

const DAY: Duration = Duration::from_secs(24 * 3600);

const AFTER_HELP: &str = "\
Examples:
  kindler dev                      try it: Postgres and daemon in one process
  kindler create demo --wait       declare a cluster and wait until it runs
  kindler list                     list all clusters: desired state, state, reason
  kindler logs demo -f             follow the output of its commands
  kindler retry demo               retry at once
  kindler delete demo --wait       declare it absent and wait until it is gone

A flag overrides the environment variable, which overrides kindler.toml, which
overrides the default; `kindler serve --help` lists all settings. While
`kindler dev` runs, the other commands use its database by default.

Exit codes: 0 done; 1 it failed; 2 bad input, unknown name or no database;
3 timed out waiting";

/// The commands of `--help`, in groups.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Run", &["dev", "serve", "once", "migrate"]),
    (
        "Declare",
        &[
            "create", "delete", "start", "stop", "pause", "resume", "retry", "adopt", "recreate",
        ],
    ),
    (
        "Inspect",
        &[
            "list",
            "get",
            "events",
            "logs",
            "kubeconfig",
            "status",
            "ready",
            "doctor",
        ],
    ),
    ("Access", &["token"]),
    ("Shell", &["completions"]),
];

/// Reconciles local Kubernetes clusters with their rows in Postgres
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
    /// Try Kindler: embedded Postgres and daemon in one process, nothing to set up
    Dev(Box<DaemonArgs>),
    /// Run the daemon: reconcile clusters with their rows until stopped
    Serve(Box<DaemonArgs>),
    /// Run one full pass and exit, for cron: 0 all as declared, 1 not yet or failed, 2 no database
    Once(Box<DaemonArgs>),
    /// Create the tables, or take over existing ones; running it again changes nothing
    Migrate,
    /// Declare a cluster
    #[command(after_help = "\
Examples:
  kindler create demo
  kindler create demo --provider kind --http-port 18099 --wait --timeout 5m

It only declares the cluster. For a name that is declared already with the same
values it changes nothing. Omitted ports get the first free ones.")]
    Create(CreateArgs),
    /// Declare a cluster absent: Kindler deletes it, then removes its row
    Delete(DeleteArgs),
    /// Declare a stopped cluster present
    Start(ChangeArgs),
    /// Declare a cluster stopped: it does not run, its data is kept
    Stop(ChangeArgs),
    /// Pause a cluster: observe it, change nothing until it is resumed
    Pause(NameArgs),
    /// Resume a paused cluster
    Resume(ChangeArgs),
    /// Retry (or check) at once, with the count of failures reset
    Retry(ChangeArgs),
    /// Take over the cluster of this name that the daemon finds, although its row did not make it
    Adopt(ChangeArgs),
    /// Delete a cluster with everything in it and create it again, as declared
    Recreate(DeleteArgs),
    /// List all clusters: desired state, state, reason
    List {
        /// Output format
        #[arg(short, long, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Show one cluster in full
    Get {
        /// The cluster
        #[arg(value_parser = ClusterName::parse)]
        name: ClusterName,
        /// Output format
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Show the events of a cluster, with their actors
    Events(EventsArgs),
    /// Show the output of a cluster's commands, on the daemon's host
    Logs(LogsArgs),
    /// Print the kubeconfig of a cluster, or merge it into yours, on the daemon's host
    #[command(after_help = "\
Examples:
  kindler kubeconfig demo > demo.yaml
  kindler kubeconfig demo --merge     into the file that kubectl would write to

It gives full access to the cluster. Only the daemon's user may read it.")]
    Kubeconfig(KubeconfigArgs),
    /// Show the health of Kindler: database, daemons, work, failures
    #[command(
        after_help = "Exit codes: 0 healthy; 1 no daemon works (none runs, none listens, or all are \
                      on standby), a cluster has failed, waits for its repair or is selected \
                      by no daemon, or a daemon found a failure (a warning, as of one replica on \
                      standby while others work, is only shown); 2 no database"
    )]
    Status {
        /// Output format
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Check everything that Kindler needs: settings, database, host, commands, daemons
    #[command(
        after_help = "Exit codes: 0 all is fine; 1 warnings; 2 failures. Run it on the daemon's host, \
                      as its user; it changes nothing"
    )]
    Doctor {
        /// Output format
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Check whether the daemon on this host is ready: 0 ready, 1 not ready, with the reason
    Ready {
        /// The address on which it listens
        #[arg(
            long,
            env = "KINDLER_LISTEN",
            default_value = LISTEN,
            value_name = "IP:PORT",
            value_parser = address
        )]
        listen: SocketAddr,
    },
    /// Create, list and revoke tokens for the API and the page
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print shell completions
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
    /// Write the manual pages to a folder
    #[command(hide = true)]
    Man {
        /// An existing folder
        folder: PathBuf,
    },
}

impl Command {
    /// Whether the command ignores all settings.
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
    /// Create a token and print it once, on stdout
    #[command(after_help = "\
Examples:
  kindler token create alice --scope admin
  kindler token create ci --scope write --expires 90d > token

Scopes: read reads everything except kubeconfigs and tokens. write also declares,
changes and deletes clusters. admin also reads kubeconfigs and the list of tokens.
Log in on the page with the token, or send it as `Authorization: Bearer TOKEN`.
The command needs the database URL of the tables' owner, as `kindler migrate` does.")]
    Create(TokenCreateArgs),
    /// List all tokens with their last use; never their secrets
    List {
        /// Output format
        #[arg(short, long, value_enum, default_value = "table")]
        output: ListOutput,
    },
    /// Revoke a token, and end every session opened with it
    Revoke {
        /// The token's name
        #[arg(value_parser = TokenName::parse)]
        name: TokenName,
    },
}

#[derive(Args)]
pub(super) struct KubeconfigArgs {
    /// The cluster
    #[arg(value_parser = ClusterName::parse)]
    pub name: ClusterName,
    /// Merge it into your kubeconfig (KUBECONFIG, else ~/.kube/config) instead of printing it
    #[arg(long)]
    pub merge: bool,
}

#[derive(Args)]
pub(super) struct TokenCreateArgs {
    /// Its name, the actor in the audit log: 1 to 63 lower-case letters, digits, '.', '_' or '-'
    #[arg(value_parser = TokenName::parse)]
    pub name: TokenName,
    /// What the token allows
    #[arg(long, value_parser = ScopeParser)]
    pub scope: Scope,
    /// Lifetime, such as 12h or 30d (1m to 3650d); unlimited by default
    #[arg(long, value_name = "DURATION", value_parser = token_lifetime)]
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
    /// Wait until it is done and show progress: 0 done, 1 failed, 3 still working at the timeout
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
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Args)]
pub(super) struct CreateArgs {
    /// Its name: 1 to 63 lower-case letters, digits or '-' (k3d: at most 32, kind: 50)
    #[arg(value_parser = ClusterName::parse)]
    pub name: ClusterName,
    #[command(flatten)]
    pub spec: SpecArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Args)]
pub(super) struct EventsArgs {
    /// The cluster; also a removed one
    #[arg(value_parser = ClusterName::parse)]
    pub name: ClusterName,
    /// Include earlier clusters of this name
    #[arg(short, long)]
    pub all: bool,
    /// Maximum number of events, the newest ones
    #[arg(
        short = 'n',
        long,
        default_value = "50",
        value_name = "N",
        value_parser = number_within("lines", 1_i64..=10_000)
    )]
    pub lines: i64,
    /// Follow new events; JSON is then one object per line
    #[arg(short, long)]
    pub follow: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

#[derive(Args)]
pub(super) struct LogsArgs {
    /// The cluster
    #[arg(value_parser = ClusterName::parse)]
    pub name: ClusterName,
    /// Maximum number of lines, the last ones
    #[arg(
        short = 'n',
        long,
        default_value = "200",
        value_name = "N",
        value_parser = number_within("lines", 0_usize..=100_000)
    )]
    pub lines: usize,
    /// Follow new lines
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

/// The command line with its built-in defaults.
pub(super) fn command() -> clap::Command {
    let command = Cli::command()
        .mut_subcommand("dev", for_dev)
        .mut_subcommand("serve", outside_dev)
        // `once` serves no HTTP.
        .mut_subcommand("once", |once| {
            outside_dev(once).mut_arg("listen", |arg| arg.hide(true))
        });
    let template = help_template(&command);
    command.help_template(template)
}

/// Help with the commands in groups, which clap does not support.
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
    // Into memory first: the generator panics when a write fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "kindler", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes `kindler.1` and a page for each visible command.
pub(super) fn write_manual(folder: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(command(), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_valid() {
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
