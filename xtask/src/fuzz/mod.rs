//! `fuzz`: coverage-guided fuzzing of the targets in `fuzz/`, with libFuzzer on the stable toolchain.
//!
//! ```text
//! fuzz/corpus/TARGET ──┐
//!                      ├─▶ fuzz-TARGET ─▶ inputs: target/fuzz/corpus/TARGET ──(--keep)──▶ fuzz/corpus/TARGET
//! fuzz/dictionaries ───┘        └───────▶ crashes: target/fuzz/crashes
//! ```

mod build;
mod options;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::command::Run;
use crate::workspace;
use options::Options;
use report::Outcome;

/// All targets; their programs are `fuzz-NAME`.
const TARGETS: [&str; 5] = ["containerfile", "definition", "layer", "registry", "tree"];

/// The seed of `test`: a commit that passed here passes in CI. `fuzz` alone takes another one each time.
pub(crate) const CI_SEED: &str = "1";

/// Targets that run at the same time.
const MAX_PARALLEL: usize = 2;

/// Arguments for libFuzzer: maximum memory of a target, seconds for one input, and its length in bytes.
const BOUNDS: [&str; 3] = ["-rss_limit_mb=1024", "-timeout=10", "-max_len=16384"];

/// Builds and runs targets and prints what they found; an error if one crashed.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let options = Options::parse(arguments)?;
    let programs = build::programs()?;
    println!(
        "fuzz: {} targets, {} seconds each, {MAX_PARALLEL} at a time",
        options.targets.len(),
        options.seconds
    );
    let mut outcomes = Vec::new();
    for wave in options.targets.chunks(MAX_PARALLEL) {
        let running = wave.iter().map(|target| Running::start(&programs, target, &options));
        // All of a wave are started before the first one is waited for.
        for running in running.collect::<Vec<_>>() {
            outcomes.push(running?.wait()?);
        }
    }
    print!("{}", report::table(&outcomes));
    let crashed: Vec<&str> =
        outcomes.iter().filter(|outcome| outcome.crash.is_some()).map(|outcome| outcome.target).collect();
    if !crashed.is_empty() {
        bail!("{} of {} fuzz targets failed: {}", crashed.len(), outcomes.len(), crashed.join(", "));
    }
    if options.keep {
        for target in &options.targets {
            keep(&programs, target)?;
        }
    }
    Ok(())
}

/// Where the inputs of a target are kept in git.
fn kept(target: &str) -> PathBuf {
    workspace::root().join("fuzz/corpus").join(target)
}

/// Where new inputs of a target are written.
fn found(target: &str) -> PathBuf {
    build::folder().join("corpus").join(target)
}

fn count(folder: &Path) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?.count())
}

struct Running {
    target: &'static str,
    program: PathBuf,
    log: PathBuf,
    before: usize,
    child: std::process::Child,
}

impl Running {
    fn start(programs: &Path, target: &'static str, options: &Options) -> anyhow::Result<Self> {
        let program = programs.join(format!("fuzz-{target}"));
        let (found, crashes) = (found(target), build::folder().join("crashes"));
        std::fs::create_dir_all(&found)?;
        std::fs::create_dir_all(&crashes)?;
        let log = build::folder().join(format!("{target}.log"));
        let seed = options.seed.map(|seed| format!("-seed={seed}"));
        let child = Run::new(&program)
            .args(BOUNDS)
            .arg(format!("-max_total_time={}", options.seconds))
            .args(seed)
            .arg(format!("-artifact_prefix={}/{target}-", crashes.display()))
            .arg(format!(
                "-dict={}",
                workspace::root().join(format!("fuzz/dictionaries/{target}.txt")).display()
            ))
            .args([&found, &kept(target)])
            .start_logged(&log)?;
        let before = count(&found)?;
        Ok(Self { target, program, log, before, child })
    }

    fn wait(mut self) -> anyhow::Result<Outcome> {
        let status = self.child.wait()?;
        let log = std::fs::read(&self.log)?;
        let new = count(&found(self.target))?.saturating_sub(self.before);
        let outcome = Outcome::read(self.target, &String::from_utf8_lossy(&log), new, status.success());
        if let Some(crash) = &outcome.crash {
            println!("fuzz: {}: FAILED ({status})\n{}", self.target, crash.text);
            let (program, log) = (workspace::shown(&self.program), workspace::shown(&self.log));
            match &crash.input {
                Some(input) => println!(
                    "reproduce it: {program} {}\nthen fix it with a unit test, and add the input to {}",
                    workspace::shown(input),
                    workspace::shown(&kept(self.target))
                ),
                None => println!("the log: {log}"),
            }
        }
        Ok(outcome)
    }
}

/// Adds found inputs that cover more than the kept ones.
fn keep(programs: &Path, target: &str) -> anyhow::Result<()> {
    let before = count(&kept(target))?;
    let log = build::folder().join(format!("{target}-keep.log"));
    let mut merge = Run::new(programs.join(format!("fuzz-{target}")))
        .args(BOUNDS)
        .arg("-set_cover_merge=1")
        .args([kept(target), found(target)])
        .start_logged(&log)?;
    if !merge.wait()?.success() {
        bail!("cannot merge the corpus of {target}; see {}", workspace::shown(&log));
    }
    println!(
        "fuzz: {target}: {} inputs added to {}",
        count(&kept(target))? - before,
        workspace::shown(&kept(target))
    );
    Ok(())
}
