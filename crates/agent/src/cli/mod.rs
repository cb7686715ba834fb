//! The command `edgewright-agent`.
//!
//! | module | holds |
//! |---|---|
//! | `args` | the command line |
//! | `commands` | one function for each command |
//! | `daemon` | `run` |
//! | `render` | documents as text |
//! | `enrol` | `enrol` |
//! | `install` | `install` |
//! | `exit` | errors, and exit codes |

mod args;
mod commands;
mod daemon;
mod enrol;
mod exit;
mod install;
mod render;

use std::process::ExitCode;

use clap::Parser as _;

pub use args::{Cli, CommandLine};

/// Threads for files; more would cost memory and gain nothing.
const MAX_THREADS: usize = 4;

/// Parses the command line, executes the command and returns the exit code.
pub fn main() -> ExitCode {
    // Usage errors end here with code 2, `--help` and `--version` with 0.
    let cli = Cli::parse();
    if let Some(code) = commands::child(&cli.command) {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_THREADS)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return exit::Failure::unavailable("cannot start threads", &error).report(cli.json),
    };
    let json = cli.json;
    match runtime.block_on(commands::dispatch(cli)) {
        Ok(code) => code,
        Err(failure) => failure.report(json),
    }
}
