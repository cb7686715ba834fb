//! Prints one page of `docs/reference`: `settings`, `metrics`, `events` or `errors`. `cargo xtask generate`
//! runs it.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    let name = std::env::args().nth(1).unwrap_or_default();
    match edgewright_server::reference::page(&name) {
        Ok(page) => {
            write!(std::io::stdout(), "{page}")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            writeln!(std::io::stderr(), "{error}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}
