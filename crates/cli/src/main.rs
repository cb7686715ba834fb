//! The `edgewright` command: parses, calls one command, prints what it says, maps its end to an exit code.
//!
//! | module | holds |
//! |---|---|
//! | [`args`] | the command line |
//! | [`settings`] | the only reader of environment and settings file |
//! | [`connection`] | how a command finds its server and its token |
//! | [`commands`] | one function per subcommand |
//! | [`render`] | documents → text, pure |
//! | [`output`] | text → terminal |
//! | [`systemd`] | reports to the service manager |
//! | [`watch`] | when files of a folder may have changed |
//! | [`exit`] | errors → messages and exit codes |

mod args;
mod commands;
mod connection;
mod exit;
mod output;
mod progress;
mod reader;
mod render;
mod sample;
mod settings;
mod systemd;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;

fn main() -> ExitCode {
    // What follows `--` is the command line of another program.
    if std::env::args_os()
        .skip(1)
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json")
    {
        output::make_errors_json();
    }
    // Usage errors end here with code 2, `--help` and `--version` with 0.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::report_usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&exit::Failure::unavailable("cannot start threads", &error)),
    };
    let end = runtime.block_on(commands::dispatch(cli));
    // Blocking reads (standard input of a job) must not hold up the end.
    runtime.shutdown_background();
    match end {
        Ok(end) => end.code(),
        Err(failure) => exit::report(&failure),
    }
}
