//! The binary: selects the entry point.

use std::env;
use std::ffi::OsStr;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    // These two come first: they must start within milliseconds and need no settings.
    match args.next().as_deref().and_then(OsStr::to_str) {
        Some("guard") => kindler::command::guard::main(args),
        Some("sandbox-node") => kindler::drivers::sandbox::node::main(args),
        _ => kindler::cli::run(env::args_os()),
    }
}
