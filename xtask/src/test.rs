//! `test`: every test of the workspace, cheapest first, with one closing line that counts them all.
//!
//! nextest runs them, each in a process of its own, as `.config/nextest.toml` configures it. cargo runs the
//! documentation tests and the one binary whose cases share a process. In tests with tools a missing tool is
//! a failure (`EDGEWRIGHT_TESTS_REQUIRE`); other tests that skip are listed and counted
//! (`EDGEWRIGHT_TESTS_SKIPPED`).

mod counts;
pub(crate) mod nextest;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::command::{Run, is_root};
use crate::{setup, workspace};
use counts::Counts;

/// The free space for temporary files with which tests build images, after compilation.
const WANTED_MIB: u64 = 8192;

/// A part of the tests with its own time budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Unit tests: no tools, no root, no network.
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

    /// What a run may take after compilation on 2 cores. More is a warning: the whole CI must stay well below
    /// 60 minutes.
    fn budget(self) -> Duration {
        Duration::from_secs(match self {
            Self::Unit | Self::Docs => 60,
            Self::Tools => 18 * 60,
        })
    }

    fn selection(self) -> &'static [&'static str] {
        match self {
            Self::Unit => &["--lib", "--bins"],
            Self::Tools => &["--test", "*"],
            Self::Docs => &["--doc"],
        }
    }

    /// The profile of `.config/nextest.toml`.
    fn profile(self) -> &'static str {
        if self == Self::Unit { "unit" } else { "ci" }
    }
}

/// Runs the parts and prints the closing line; an error if a test failed. A filter is a part of a test's
/// name.
pub(crate) fn run(parts: &[Part], filter: Option<&str>) -> anyhow::Result<()> {
    let started = Instant::now();
    if parts.contains(&Part::Tools) {
        setup::run()?;
        setup::clients()?;
        nextest::install()?;
    }
    compile(parts)?;
    if parts.contains(&Part::Tools) {
        warn_of_little_space()?;
    }
    let mut total = Counts::default();
    let mut summary = Vec::new();
    for &part in parts {
        println!("test: {}", part.name());
        let began = Instant::now();
        let counts = run_part(part, filter)?;
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

/// Warns of what would look like broken builds: a job may take half of the free space.
fn warn_of_little_space() -> anyhow::Result<()> {
    let folder = std::env::temp_dir();
    let asked = Run::new("df").args(["--output=avail", "--block-size=1M"]).arg(&folder).output()?;
    let free = asked.lines().last().and_then(|line| line.trim().parse::<u64>().ok());
    if let Some(free) = free.filter(|free| *free < WANTED_MIB) {
        let folder = folder.display();
        println!(
            "warning: {free} MiB are free below {folder}, and tests that build images need {WANTED_MIB}: free some, \
             or set TMPDIR to a folder on another disk"
        );
    }
    Ok(())
}

/// Compiles first, so that budgets are about the tests.
fn compile(parts: &[Part]) -> anyhow::Result<()> {
    let started = Instant::now();
    let selection = match parts {
        [Part::Docs] => return Ok(()),
        [Part::Unit] => Part::Unit.selection(),
        _ => &["--all-targets"],
    };
    println!("test: compiling");
    let tests = cargo_test().args(selection).arg("--no-run");
    tests.run().context("the tests do not compile")?;
    if parts.contains(&Part::Tools) {
        // Tests start these as processes of their own; selected tests alone do not build them.
        let programs = ["build", "--workspace", "--locked", "--bins", "--examples"];
        Run::new("cargo").args(programs).cwd(workspace::root()).run().context("programs do not compile")?;
    }
    println!("test: compiled in {}", shown(started.elapsed()));
    Ok(())
}

fn cargo_test() -> Run {
    Run::new("cargo").args(["test", "--workspace", "--locked"]).cwd(workspace::root())
}

/// Runs one part with the runners that it needs.
fn run_part(part: Part, filter: Option<&str>) -> anyhow::Result<Counts> {
    let skips = workspace::target().join("skipped-tests.txt");
    if skips.exists() {
        std::fs::remove_file(&skips)?;
    }
    let mut counts = Counts::default();
    for command in commands(part, filter)? {
        counts += count(prepared(command, part, &skips)?, filter)?;
    }
    let skipped = std::fs::read_to_string(&skips).unwrap_or_default();
    print!("{skipped}");
    Ok(counts.with_skipped(skipped.lines().count() as u64))
}

fn commands(part: Part, filter: Option<&str>) -> anyhow::Result<Vec<Run>> {
    let by_cargo = || cargo_test().arg("--no-fail-fast").args(part.selection()).args(filter);
    if part == Part::Docs {
        return Ok(vec![by_cargo()]);
    }
    let Some(program) = nextest::installed()? else {
        println!("test: cargo-nextest is not installed, using cargo test; `cargo xtask setup` installs it");
        return Ok(vec![by_cargo()]);
    };
    let mut commands = vec![by_nextest(program, part, filter)];
    if part == Part::Tools {
        let shared =
            Run::new("cargo").args(["test", "--locked", "--package", "edgewright-lab", "--test", "podman"]);
        commands.push(shared.cwd(workspace::root()).args(filter));
    }
    Ok(commands)
}

fn by_nextest(program: PathBuf, part: Part, filter: Option<&str>) -> Run {
    // nextest prints to standard error.
    Run::new("sh")
        .args(["-c", r#"exec "$0" "$@" 2>&1"#])
        .arg(program)
        .args([
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-tests",
            "pass",
            "--profile",
            part.profile(),
        ])
        .args(part.selection())
        .args(filter)
        .cwd(workspace::root())
}

fn prepared(command: Run, part: Part, skips: &Path) -> anyhow::Result<Run> {
    let command = command.env("EDGEWRIGHT_TESTS_SKIPPED", skips);
    if part != Part::Tools {
        return Ok(command);
    }
    let command = command
        .env("EDGEWRIGHT_TESTS_REQUIRE", "1")
        .env("EDGEWRIGHT_TESTS_ORAS", setup::oras()?)
        .env("EDGEWRIGHT_TOOLS", setup::tool_image(&workspace::target().join("debug/edgewright"))?);
    if is_root()? {
        return Ok(command);
    }
    // Containers under test need root; compilation does not, and would leave files of root in `target`.
    let variable = format!("CARGO_TARGET_{}_RUNNER", host()?.replace('-', "_").to_uppercase());
    Ok(command.env(&variable, "sudo --preserve-env"))
}

/// Streams the output of a runner and counts its results on the way.
fn count(command: Run, filter: Option<&str>) -> anyhow::Result<Counts> {
    let mut child = command.start_piped()?;
    let output = child.stdout.take().context("the pipe was asked for")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(result) = Counts::in_line(&line) {
            counts += result;
        }
    }
    if !child.wait()?.success() && counts.failed == 0 {
        // A test binary that crashed, or that cargo could not start, prints no result.
        counts.failed = 1;
    }
    if filter.is_some() {
        // nextest counts what a filter leaves out.
        counts.skipped = 0;
    }
    Ok(counts)
}

/// The triple of this machine, in rustc's spelling.
pub(crate) fn host() -> anyhow::Result<String> {
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
    fn durations_read_well() {
        assert_eq!(shown(Duration::from_millis(1540)), "1.5s");
        assert_eq!(shown(Duration::from_secs(605)), "10m05s");
    }
}
