//! Simulations of rollouts, with the engine that ships: `cargo xtask sim`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it prints tables")]

mod fast;
mod fleet;
mod goals;
mod rules;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use edgewright_rollout::gate::Baseline;
use edgewright_rollout::state::Status;

use fast::{IN_FLIGHT, Runs, runs};
use goals::Goals;
use rules::Rule;

const USAGE: &str = "\
Simulate rollouts: how often a gate stops a good release, and how many devices a bad one reaches.

Usage: cargo xtask sim [OPTIONS]

Options:
  --devices N  devices of the full model [default: 10000]
  --runs N     rollouts of a healthy release in the fast model; a tenth as many of each bad one [default: 10000]
  --seed N     of all random numbers [default: 1]
  --out FILE   write the goals as JSON";

/// The baseline of the fast model: what good releases fail with.
const BASELINE: f64 = 0.005;
const RATES: [f64; 5] = [BASELINE, 0.01, 0.03, 0.08, 0.3];

struct Options {
    devices: u32,
    runs: u32,
    seed: u64,
    out: Option<String>,
}

fn main() -> ExitCode {
    match options().and_then(|options| options.map_or(Ok(()), |options| run(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> anyhow::Result<Option<Options>> {
    let mut options = Options { devices: 10_000, runs: 10_000, seed: 1, out: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if matches!(word.as_str(), "--help" | "-h") {
            println!("{USAGE}");
            return Ok(None);
        }
        let value = words.next().with_context(|| format!("{word} needs a value\n\n{USAGE}"))?;
        let number = || value.parse().with_context(|| format!("{word} {value}: write a whole number"));
        match word.as_str() {
            "--devices" => options.devices = u32::try_from(number()?).context("too many devices")?,
            "--runs" => options.runs = u32::try_from(number()?).context("too many runs")?,
            "--seed" => options.seed = number()?,
            "--out" => options.out = Some(value),
            _ => bail!("unknown option {word}\n\n{USAGE}"),
        }
    }
    Ok(Some(options))
}

fn run(options: &Options) -> anyhow::Result<()> {
    let mut goals = Goals::default();
    outcomes(options, &mut goals);
    full(options)?;
    goals.write(options.out.as_deref())
}

/// The table of the fast model: ours, and rules that other products have.
fn outcomes(options: &Options, goals: &mut Goals) {
    println!(
        "Stages of 10, 100, 1,000 and 10,000 devices; {IN_FLIGHT} in flight; baseline {} %",
        BASELINE * 100.0
    );
    println!("Rollouts that were stopped / median of devices that failed\n");
    let names = ["stage end 90 %", "stage end 95 %", "running 5 %", "SPRT 3 %", "Edgewright"];
    println!("{:>8}{}", "fails", names.map(|name| format!("{name:>18}")).concat());
    for rate in RATES {
        let is_healthy = rate <= BASELINE;
        let count = if is_healthy { options.runs } else { options.runs.div_ceil(10) };
        let rules: [fn() -> Rule; 5] = [
            || Rule::stage_end(0.9),
            || Rule::stage_end(0.95),
            || Rule::running(0.05, 20),
            || Rule::sprt(BASELINE, 0.03, 0.01),
            || Rule::gate(Baseline::new(BASELINE)),
        ];
        let all = rules.map(|rule| runs(rule, rate, count, options.seed));
        println!("{:>7.1}%{}", rate * 100.0, all.each_ref().map(cell).concat());
        let [.., ours] = &all;
        goals.rate(rate, is_healthy, ours);
    }
}

fn cell(runs: &Runs) -> String {
    let share = f64::from(runs.stopped) / f64::from(runs.count.max(1)) * 100.0;
    format!("{:>18}", format!("{share:.1} % / {}", runs.median_failed))
}

/// The table of the full model.
fn full(options: &Options) -> anyhow::Result<()> {
    println!(
        "\n{} devices at sites with links and outages; the engine that ships, on a virtual clock\n",
        options.devices
    );
    println!(
        "{:<48} {:>24} {:>9} {:>8} {:>8} {:>8}",
        "release", "end", "after", "offered", "failed", "seconds"
    );
    for case in fleet::cases() {
        let (summary, took) = fleet::run(&case, options.devices, options.seed)?;
        let end = match summary.status {
            Status::Stopped(why) => format!("stopped: {why:?}"),
            Status::Active => "not all devices reached".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        let (_, begin) = summary.stages.first().context("a rollout has a first stage")?;
        let hours = begin.duration_until(summary.end).as_secs_f64() / 3600.0;
        println!(
            "{:<48} {end:>24} {:>8.1}h {:>8} {:>8} {:>8.1}",
            case.name,
            hours,
            summary.offered,
            summary.failed,
            took.as_secs_f64()
        );
    }
    Ok(())
}
