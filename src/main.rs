//! The binary only parses and calls.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    // Before anything else: the guard must start in a few milliseconds and needs no settings.
    if args.next().is_some_and(|first| first == "guard") {
        return kindler::command::guard::main(args);
    }
    ExitCode::SUCCESS
}
