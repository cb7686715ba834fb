//! Runs checks in a process of its own: what they do cannot end the agent, and their memory is given back.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewright_checks::{ORDER_VERSION, RunLine, RunOrder};
use edgewright_model::duration::Span;
use edgewright_model::error::Chain;
use edgewright_model::spec::{Assertion, Check, Lane};
use edgewright_model::verdict::CheckResult;
use edgewright_process::{CancellationToken, Command, Stream};

use super::HealthResult;

/// Maximum length of a line of the runner, in bytes: one result with its output.
const MAX_LINE: usize = 256 * 1024;
/// Time for the runner itself, besides the checks.
const RUNNER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for greenboot's scripts that follow the decision, together.
const HOOKS_TIMEOUT: Duration = Duration::from_mins(2);
/// Folders of greenboot's checks.
const GREENBOOT: [&str; 4] = [
    "usr/lib/greenboot/check/required.d",
    "usr/lib/greenboot/check/wanted.d",
    "etc/greenboot/check/required.d",
    "etc/greenboot/check/wanted.d",
];

/// What is checked after a boot.
#[derive(Debug, Clone)]
pub struct HealthSettings {
    /// The time limit of all checks together.
    pub within: Duration,
    /// Factor on the time limits of checks.
    pub scale: f64,
    /// Whether the image's check set is run.
    pub check_set: bool,
    /// Whether greenboot's scripts are run.
    pub greenboot: bool,
    /// The unit that the boot must reach; none if empty.
    pub target: String,
}

/// Runs checks.
#[derive(Debug, Clone)]
pub struct Runner {
    /// The agent's own program, which runs them as `run-checks`.
    pub program: PathBuf,
    /// What is checked.
    pub settings: HealthSettings,
    /// The root of the device's files.
    pub root: PathBuf,
}

impl Runner {
    /// The checks of a boot: those of the image and the device's own.
    pub fn checks(&self, of_image: Vec<Check>) -> Vec<Check> {
        let within = Span::from_secs(self.settings.within.as_secs().max(1));
        let own = |id: &str, assert| Check { id: id_of(id), assert, within, lanes: None };
        let mut checks = if self.settings.check_set { of_image } else { Vec::new() };
        if !self.settings.target.is_empty() {
            checks.push(own("boot-target", Assertion::Unit { name: self.settings.target.clone() }));
        }
        let has_greenboot = checks.iter().any(|check| check.assert == Assertion::Greenboot);
        if self.settings.greenboot && !has_greenboot && has_scripts(&self.root) {
            checks.push(own("greenboot", Assertion::Greenboot));
        }
        checks
    }

    /// Runs checks to their end. An error of the runner is a result, too: an image is healthy only if all of
    /// its checks were run and held.
    pub async fn run(&self, checks: Vec<Check>, cancel: &CancellationToken) -> HealthResult {
        let expected = checks.len();
        let scale = self.settings.scale;
        let order = RunOrder { version: ORDER_VERSION, lane: Lane::Device, checks, scale, starts: None };
        let order = match serde_json::to_vec(&order) {
            Ok(order) => order,
            Err(error) => return fault(format!("cannot write the order of the checks: {error}")),
        };
        let mut result = HealthResult::default();
        let mut is_complete = false;
        let command = Command::new(&self.program)
            .arg("run-checks")
            .stdin_bytes(order)
            .line_limit(MAX_LINE)
            .deadline(self.settings.within.saturating_add(RUNNER_TIMEOUT))
            .cancel(cancel.clone());
        let ended = command
            .run_lines_status(|stream, line| match (stream, serde_json::from_str(line)) {
                (Stream::Stdout, Ok(RunLine::Result(check))) => result.checks.push(check),
                (Stream::Stdout, Ok(RunLine::Summary(_))) => is_complete = true,
                _ => {}
            })
            .await;
        result.warnings = result.checks.iter().flat_map(warnings).collect();
        if let Err(error) = ended {
            result.fault = Some(format!("the checks did not end: {}", Chain(&error)));
        } else if !is_complete || result.checks.len() != expected {
            result.fault = Some("the check runner ended before its checks did".to_owned());
        }
        result.bounded()
    }
}

impl Runner {
    /// Runs greenboot's scripts that follow the decision about a boot. What does not work is a warning of the
    /// result: it decides nothing.
    pub async fn follow(&self, result: &mut HealthResult, cancel: &CancellationToken) {
        if !self.settings.greenboot {
            return;
        }
        let kind = if result.failure().is_none() { "green" } else { "red" };
        let command = Command::new(&self.program)
            .arg("run-hooks")
            .arg(kind)
            .arg(&self.root)
            .line_limit(MAX_LINE)
            .deadline(HOOKS_TIMEOUT.saturating_add(RUNNER_TIMEOUT))
            .cancel(cancel.clone());
        let ended = command
            .run_lines_status(|stream, line| {
                if stream == Stream::Stdout {
                    result.warnings.push(line.to_owned());
                }
            })
            .await;
        if let Err(error) = ended {
            result.warnings.push(format!("greenboot's {kind}.d did not end: {}", Chain(&error)));
        }
        *result = std::mem::take(result).bounded();
    }
}

/// The child's side of [`Runner::follow`]: prints a line for each thing that did not work. Blocking.
pub fn run_hooks(is_healthy: bool, root: &Path, output: &impl Fn(&str)) {
    for note in edgewright_checks::run_hooks(root, is_healthy, HOOKS_TIMEOUT) {
        note.lines().for_each(output);
    }
}

/// The notes of greenboot's wanted scripts.
fn warnings(check: &CheckResult) -> Vec<String> {
    check.notes.iter().filter(|note| note.starts_with("wanted greenboot check")).cloned().collect()
}

fn fault(message: String) -> HealthResult {
    HealthResult { fault: Some(message), ..HealthResult::default() }
}

/// The id of one of the device's own checks.
#[expect(clippy::expect_used, reason = "the two literals above are valid ids, and the test below uses both")]
fn id_of(text: &str) -> edgewright_model::names::CheckId {
    text.parse().expect("a literal that is a valid id")
}

fn has_scripts(root: &Path) -> bool {
    GREENBOOT
        .iter()
        .any(|folder| std::fs::read_dir(root.join(folder)).is_ok_and(|mut entries| entries.next().is_some()))
}

/// The child's side: reads an order, prints a line for each result. Returns whether all checks held.
/// Blocking.
pub fn run_order(
    order: &[u8],
    output: &(impl Fn(&str) + Sync),
) -> Result<bool, edgewright_checks::InvalidOrder> {
    let order = RunOrder::parse(order)?;
    let start = std::time::Instant::now();
    let print = |line: &RunLine| {
        if let Ok(text) = serde_json::to_string(line) {
            output(&text);
        }
    };
    let results = edgewright_checks::run(&order, |result| print(&RunLine::Result(result.clone())));
    let took = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let summary = edgewright_checks::RunSummary::of(&results, took);
    let held = summary.failed == 0;
    print(&RunLine::Summary(summary));
    Ok(held)
}

/// Prints a line in one piece. A failure means that the agent is gone.
pub(crate) fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(root: &Path, settings: HealthSettings) -> Runner {
        Runner { program: PathBuf::from("/bin/false"), settings, root: root.to_owned() }
    }

    fn settings() -> HealthSettings {
        HealthSettings {
            within: Duration::from_mins(1),
            scale: 1.0,
            check_set: true,
            greenboot: true,
            target: "multi-user.target".to_owned(),
        }
    }

    fn held() -> Check {
        let assert = Assertion::Command { argv: vec!["true".to_owned()], exit: 0, stdout: None };
        Check { id: "true".parse().unwrap(), assert, within: Span::from_secs(1), lanes: None }
    }

    #[test]
    fn greenboot_is_checked_where_there_are_scripts() {
        let folder = tempfile::tempdir().unwrap();
        let ids = |settings| {
            let checks = runner(folder.path(), settings).checks(vec![held()]);
            checks.iter().map(|check| check.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(ids(settings()), ["true", "boot-target"]);
        let scripts = folder.path().join(GREENBOOT[0]);
        std::fs::create_dir_all(&scripts).unwrap();
        std::fs::write(scripts.join("a.sh"), "").unwrap();
        assert_eq!(ids(settings()), ["true", "boot-target", "greenboot"]);
        let nothing =
            HealthSettings { check_set: false, greenboot: false, target: String::new(), ..settings() };
        assert!(ids(nothing).is_empty());
    }

    #[tokio::test]
    async fn a_runner_that_ends_early_is_unhealthy() {
        let folder = tempfile::tempdir().unwrap();
        let result = runner(folder.path(), settings()).run(vec![held()], &CancellationToken::new()).await;
        assert!(result.failure().unwrap().contains("ended before"), "{result:?}");
        let missing = Runner { program: "/nonexistent".into(), ..runner(folder.path(), settings()) };
        let result = missing.run(Vec::new(), &CancellationToken::new()).await;
        assert!(result.failure().unwrap().contains("did not end"), "{result:?}");
    }
}
