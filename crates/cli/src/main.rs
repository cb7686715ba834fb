//! The `edgewright` command: parses the command line, calls one command, prints its result, maps its end to
//! an exit code.
//!
//! | module | holds |
//! |---|---|
//! | [`args`] | the command line |
//! | [`complete`] | completion of names |
//! | [`settings`] | the only reader of environment and settings file |
//! | [`client_config`] | the client's own configuration: its server |
//! | [`connection`] | how a command finds its server, its token and its authorities |
//! | [`commands`] | one function per subcommand |
//! | [`render`] | documents → text, pure |
//! | [`output`] | text → terminal |
//! | [`systemd`] | reports to the service manager |
//! | [`unprivileged`] | sandboxes of users who are not root |
//! | [`watch`] | when files of a folder may have changed |
//! | [`exit`] | errors → messages and exit codes |

mod args;
mod client_config;
mod commands;
mod complete;
mod connection;
mod exit;
mod login;
mod output;
mod progress;
mod reader;
mod render;
mod sample;
mod settings;
mod systemd;
mod unprivileged;
mod watch;

use std::process::ExitCode;

use clap_complete::CompleteEnv;

fn main() -> ExitCode {
    // A shell that asks for completions gets them, and the process ends.
    CompleteEnv::with_factory(args::command).complete();
    let line: Vec<_> = std::env::args_os().collect();
    // Arguments after `--` are the command line of another program.
    if line.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json") {
        output::make_errors_json();
    }
    // Usage errors end here with code 2, `--help` and `--version` with 0.
    let cli = match args::parse(line.clone()) {
        Ok(cli) => cli,
        Err(error) => return exit::report_usage(&error),
    };
    if let Err(failure) = unprivileged::enter(&cli, &line) {
        return exit::report(&failure);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&exit::Failure::unavailable("cannot start threads", &error)),
    };
    let end = runtime.block_on(commands::dispatch(cli));
    // Blocking reads (standard input of a job) must not delay the end.
    runtime.shutdown_background();
    match end {
        Ok(end) => end.code(),
        Err(failure) => exit::report(&failure),
    }
}
