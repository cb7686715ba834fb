//! `edgewright-checks`: an order on standard input, results as JSON lines on standard output.
//!
//! Exit code: 0 when every check held, 1 when one did not, 2 when the order cannot be run.
//!
//! As `edgewright-checks pod`, it is the first process of a container on Kubernetes; as `edgewright-checks
//! machine-checks`, it runs in a virtual machine of KubeVirt, and as `edgewright-checks device-checks` in a
//! device there.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use edgewright_checks::device::{Places, lead_device};
use edgewright_checks::machine::Limits;
use edgewright_checks::{RunLine, RunOrder, RunSummary, machine, run};
use edgewright_model::error::Chain;

/// Maximum length of an order, in bytes: enough for thousands of checks.
const LONGEST_ORDER: u64 = 16 * 1024 * 1024;

/// The exit code of shells where a program cannot be started.
const NOT_STARTED: u8 = 127;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = beside_an_init(&words) {
        return code;
    }
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--version") => {
            let version = concat!("edgewright-checks ", env!("CARGO_PKG_VERSION"), "\n");
            return if io::stdout().write_all(version.as_bytes()).is_ok() {
                ExitCode::SUCCESS
            } else {
                rejected()
            };
        }
        Some(_) => {
            complain("usage: edgewright-checks [--version] < ORDER.json");
            return rejected();
        }
    }
    let start = Instant::now();
    let mut json = Vec::new();
    if let Err(error) = io::stdin().take(LONGEST_ORDER).read_to_end(&mut json) {
        complain(&format!("cannot read standard input: {error}"));
        return rejected();
    }
    let order = match RunOrder::parse(&json) {
        Ok(order) => order,
        Err(error) => {
            complain(&Chain(&error).to_string());
            return rejected();
        }
    };
    let results = run(&order, |result| print_line(&RunLine::Result(result.clone())));
    let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let summary = RunSummary::of(&results, duration_ms);
    let failed = summary.failed;
    print_line(&RunLine::Summary(summary));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The modes for machines that are reached by their log only.
fn beside_an_init(words: &[OsString]) -> Option<ExitCode> {
    let done = match words {
        [mode, order, user, command @ ..] if mode == "pod" => {
            let user = user.to_string_lossy();
            let error = edgewright_checks::pod::become_init(Path::new(order), &user, command);
            complain(&format!("cannot start the image's init: {error}"));
            return Some(ExitCode::from(NOT_STARTED));
        }
        [mode, order] if mode == "pod-checks" => {
            let done = edgewright_checks::pod::run_in_pod(Path::new(order), io::stdout());
            done.map(|()| edgewright_checks::pod::leave())
        }
        [mode, order, settling, boot] if mode == "machine-checks" => {
            let Some(limits) = limits(settling, boot) else { return Some(rejected()) };
            let done = machine::run_in_machine(Path::new(order), limits, Path::new(machine::CONSOLE));
            done.map(|()| machine::leave())
        }
        [mode, order, settling, boot, state, offer] if mode == "device-checks" => {
            let Some(limits) = limits(settling, boot) else { return Some(rejected()) };
            let [order, state, offer] = [order, state, offer].map(Path::new);
            let places = Places { order, state, offer, console: Path::new(machine::CONSOLE) };
            lead_device(places, limits).map(|()| machine::leave())
        }
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&message);
            rejected()
        }
    })
}

fn limits(settling: &OsStr, boot: &OsStr) -> Option<Limits> {
    let limit = |word: &OsStr| word.to_str()?.parse().ok().map(Duration::from_secs);
    Some(Limits { settling: limit(settling)?, boot: limit(boot)? })
}

fn rejected() -> ExitCode {
    ExitCode::from(2)
}

/// Writes a line in one piece. A failure means that the reader is gone, which shows at the end of the run.
fn print_line(line: &RunLine) {
    if let Ok(mut text) = serde_json::to_string(line) {
        text.push('\n');
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "edgewright-checks: {message}");
}
