//! The binary only parses and calls.

use std::env;
use std::process::ExitCode;

use kindler::cli::{DaemonCommands, DaemonResult};
use kindler::config::DaemonSettings;

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    // Before anything else: the guard must start in a few milliseconds and needs no settings.
    if args.next().is_some_and(|first| first == "guard") {
        return kindler::command::guard::main(args);
    }
    // SEAM: `kindler::daemon::{dev, serve, once}` go here.
    let daemon = DaemonCommands {
        dev: no_daemon,
        serve: no_daemon,
        once: no_daemon,
    };
    kindler::cli::run(env::args_os(), daemon)
}

fn no_daemon(_: DaemonSettings) -> DaemonResult {
    Err("this build has no daemon".into())
}
