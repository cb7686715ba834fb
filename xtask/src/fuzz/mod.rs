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
use options::{Extent, Options};
use report::Outcome;

/// All targets, and the inputs of a search that can be repeated: about a minute's. Their programs are
/// `fuzz-NAME`.
const TARGETS: [(&str, u64); 5] = [
    ("containerfile", 200_000),
    ("definition", 20_000),
    ("layer", 250_000),
    ("registry", 1_000_000),
    ("tree", 200_000),
];

/// The seed of `test`: a commit that passed here passes in CI. `fuzz` alone searches elsewhere each time.
pub(crate) const CI_SEED: &str = "1";

/// Targets that run at the same time.
const MAX_PARALLEL: usize = 2;

/// Arguments for libFuzzer: maximum memory of a target, seconds for one input, and its length in bytes.
const BOUNDS: [&str; 3] = ["-rss_limit_mb=1024", "-timeout=10", "-max_len=16384"];

/// What a search that can be repeated takes at most, in seconds: what is left of it then is not searched.
const REPEATED_TIMEOUT: u64 = 300;

/// Builds and runs targets and prints what they found; an error if one crashed.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let options = Options::parse(arguments)?;
    let programs = build::programs()?;
    let each = match options.extent {
        Extent::Seconds(seconds) => format!("{seconds} seconds each"),
        Extent::Seed(seed) => format!("about a minute each from seed {seed}"),
    };
    println!("fuzz: {} targets, {each}, {MAX_PARALLEL} at a time", options.targets.len());
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
        if matches!(options.extent, Extent::Seed(_)) && found.exists() {
            // What an earlier search found would lead this one elsewhere.
            std::fs::remove_dir_all(&found)?;
        }
        std::fs::create_dir_all(&found)?;
        std::fs::create_dir_all(&crashes)?;
        let log = build::folder().join(format!("{target}.log"));
        let child = extent(&program, target, options.extent)
            .args(BOUNDS)
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

/// A program with its seed and its end. A search that can be repeated has the same addresses each time, and
/// looks at no folder in between.
fn extent(program: &Path, target: &str, extent: Extent) -> Run {
    match extent {
        Extent::Seconds(seconds) => Run::new(program).arg(format!("-max_total_time={seconds}")),
        Extent::Seed(seed) => {
            let runs = TARGETS.into_iter().find(|(name, _)| *name == target).map_or(1, |(_, runs)| runs);
            Run::new("setarch").arg("--addr-no-randomize").arg(program).args([
                format!("-seed={seed}"),
                format!("-runs={runs}"),
                format!("-max_total_time={REPEATED_TIMEOUT}"),
                "-reload=0".to_owned(),
            ])
        }
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
