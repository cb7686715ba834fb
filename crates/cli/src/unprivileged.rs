//! A user who is not root makes sandboxes as the root of a user namespace, in which the command starts again.

use std::ffi::OsString;

use edgewright_sandbox::namespace::Entrance;

use crate::args::{Cli, Command, ServeArgs};
use crate::exit::Failure;
use crate::settings::Environment;

/// Starts a command that makes sandboxes again in a namespace, if this user needs one and can make it. What
/// is missing is named where a sandbox is needed: much works without.
///
/// # Errors
/// The namespace was to be entered, and could not be.
pub(crate) fn enter(cli: &Cli, line: &[OsString]) -> Result<(), Failure> {
    let environment = Environment::read();
    if environment.makes_sandboxes() || !is_for_sandboxes(cli, &environment) {
        return Ok(());
    }
    let (Ok(entrance), Ok(program)) = (Entrance::find(), std::env::current_exe()) else { return Ok(()) };
    Err(entrance.enter(&program, line.iter().skip(1).cloned()).into())
}

fn is_for_sandboxes(cli: &Cli, environment: &Environment) -> bool {
    let data = || cli.global.data.clone();
    let settings = match &cli.command {
        Command::Serve(args) => environment.serve(args, data()),
        Command::Run(args) if args.command.is_none() => {
            let args = ServeArgs { isolation: args.work.isolation.clone(), ..ServeArgs::default() };
            environment.run(&args, data())
        }
        Command::Doctor(args) => {
            let (config, isolation) = (args.config.clone(), args.isolation.clone());
            environment.run(&ServeArgs { config, isolation, ..ServeArgs::default() }, data())
        }
        _ => return false,
    };
    // Settings that cannot be read are reported by the command itself.
    settings.is_ok_and(|settings| !settings.unsafe_host_tools)
}
