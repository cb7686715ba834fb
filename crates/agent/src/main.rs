//! `edgewright-agent`: the command of a device.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
