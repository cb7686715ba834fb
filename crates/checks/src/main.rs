//! `edgewright-checks`: an order on standard input, results as JSON lines on standard output.
//!
//! Exit code: 0 when every check held, 1 when one did not, 2 when the order cannot be run.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use edgewright_checks::{RunLine, RunOrder, RunSummary, run};
use edgewright_model::error::Chain;

/// Longest order that is read, in bytes: thousands of checks.
const LONGEST_ORDER: u64 = 16 * 1024 * 1024;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--version") => {
            let version = concat!("edgewright-checks ", env!("CARGO_PKG_VERSION"), "\n");
            return if io::stdout().write_all(version.as_bytes()).is_ok() {
                ExitCode::SUCCESS
            } else {
                unfit()
            };
        }
        Some(_) => {
            complain("usage: edgewright-checks [--version] < ORDER.json");
            return unfit();
        }
    }
    let start = Instant::now();
    let mut json = Vec::new();
    if let Err(error) = io::stdin().take(LONGEST_ORDER).read_to_end(&mut json) {
        complain(&format!("standard input cannot be read: {error}"));
        return unfit();
    }
    let order = match RunOrder::parse(&json) {
        Ok(order) => order,
        Err(error) => {
            complain(&Chain(&error).to_string());
            return unfit();
        }
    };
    let results = run(&order, |result| say(&RunLine::Result(result.clone())));
    let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let summary = RunSummary::of(&results, duration_ms);
    let failed = summary.failed;
    say(&RunLine::Summary(summary));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn unfit() -> ExitCode {
    ExitCode::from(2)
}

/// Writes a line in one piece. Nobody listens any more where that fails; the end of the run shows it.
fn say(line: &RunLine) {
    if let Ok(mut text) = serde_json::to_string(line) {
        text.push('\n');
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "edgewright-checks: {message}");
}
