//! `test`: every test of the workspace, cheapest first, with one closing line that counts them all.
//!
//! Tests that need podman and friends must not skip here: `EDGEWRIGHT_TESTS_REQUIRE=1` makes a missing tool a failure.
//! `EDGEWRIGHT_TESTS_ORAS` names the oras that `setup` fetched, where the machine has none.

use std::io::{BufRead as _, BufReader};
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::command::{Run, is_root};
use crate::{setup, workspace};

/// A part of the tests with its own time budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Unit tests: no tools, no network.
    Unit,
    /// Integration tests, many with podman, buildah, mmdebstrap, skopeo.
    Tools,
    /// Examples in documentation.
    Docs,
}

impl Part {
    /// All, cheapest first.
    pub(crate) const ALL: &'static [Self] = &[Self::Unit, Self::Tools, Self::Docs];

    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit tests",
            Self::Tools => "tests with real tools",
            Self::Docs => "documentation tests",
        }
    }

    /// What a run may take after compilation on 2 cores. More is a warning: the whole CI must stay well below 60 minutes.
    fn budget(self) -> Duration {
        Duration::from_secs(match self {
            Self::Unit | Self::Docs => 60,
            Self::Tools => 720,
        })
    }

    fn selection(self) -> &'static [&'static str] {
        match self {
            Self::Unit => &["--lib", "--bins"],
            Self::Tools => &["--test", "*"],
            Self::Docs => &["--doc"],
        }
    }
}

/// What came out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs the parts and prints the closing line; an error where a test failed.
pub(crate) fn run(parts: &[Part]) -> anyhow::Result<()> {
    let started = Instant::now();
    setup::run()?;
    if parts.contains(&Part::Tools) {
        setup::clients()?;
    }
    if parts != [Part::Docs] {
        println!("test: compiling");
        cargo_test().args(["--all-targets", "--no-run"]).run().context("the tests do not compile")?;
        // Tests start these as processes of their own; selected tests alone do not build them.
        let examples = Run::new("cargo").args(["build", "--workspace", "--locked", "--examples"]);
        examples.cwd(workspace::root()).run().context("the examples do not compile")?;
        println!("test: compiled in {}", shown(started.elapsed()));
    }
    let mut total = Counts::default();
    let mut summary = Vec::new();
    for &part in parts {
        println!("test: {}", part.name());
        let began = Instant::now();
        let counts = run_part(part)?;
        total += counts;
        let took = began.elapsed();
        let Counts { passed, failed, skipped } = counts;
        let (took_text, budget) = (shown(took), shown(part.budget()));
        summary.push(format!(
            "{:24} {passed:5} passed {failed:4} failed {skipped:4} skipped  {took_text:>6} of {budget}",
            part.name()
        ));
        if took > part.budget() {
            summary.push(format!("warning: {} took longer than their budget", part.name()));
        }
    }
    println!("\n{}\nall in {}", summary.join("\n"), shown(started.elapsed()));
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if total.failed > 0 {
        bail!("{} tests failed", total.failed);
    }
    Ok(())
}

fn cargo_test() -> Run {
    Run::new("cargo").args(["test", "--workspace", "--locked"]).cwd(workspace::root())
}

/// Streams the output of one part and counts its results on the way.
fn run_part(part: Part) -> anyhow::Result<Counts> {
    let mut command = cargo_test()
        .arg("--no-fail-fast")
        .args(part.selection())
        .env("EDGEWRIGHT_TESTS_REQUIRE", "1")
        .env("EDGEWRIGHT_TESTS_ORAS", setup::oras()?);
    if part == Part::Tools && !is_root()? {
        // Containers under test need root; compilation does not, and would leave files of root in `target`.
        let variable = format!("CARGO_TARGET_{}_RUNNER", host()?.replace('-', "_").to_uppercase());
        command = command.env(&variable, "sudo --preserve-env");
    }
    let mut child = command.start_piped()?;
    let output = child.stdout.take().context("the pipe was asked for")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(result) = result_of(&line) {
            counts += result;
        }
    }
    if !child.wait()?.success() && counts.failed == 0 {
        // A test binary that crashed, or that cargo could not start, prints no result.
        counts.failed = 1;
    }
    Ok(counts)
}

/// The counts in the closing line of one test binary.
fn result_of(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let before = rest.split_once(&format!(" {word};"))?.0;
        before.rsplit(' ').next()?.parse().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
}

/// The triple of this machine, in rustc's spelling.
fn host() -> anyhow::Result<String> {
    let version = Run::new("rustc").arg("-vV").output()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// A duration for people.
pub(crate) fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1}s", duration.as_secs_f64())
    } else {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted_and_nothing_else() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.1s";
        assert_eq!(result_of(line), Some(Counts { passed: 12, failed: 3, skipped: 1 }));
        for other in
            ["", "test result: ok.", "test a ... ok", "running 3 tests", " test result: ok. 1 passed;"]
        {
            assert_eq!(result_of(other), None, "{other}");
        }
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(shown(Duration::from_millis(1540)), "1.5s");
        assert_eq!(shown(Duration::from_secs(605)), "10m05s");
    }
}
