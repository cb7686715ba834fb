//! `bench`: measurements. Each compares with an alternative in the same run and reports which of its goals it
//! met.

mod cluster;
mod distribution;
mod fleet;
mod measure;
mod pipeline;
mod report;
mod vm;

use anyhow::{bail, ensure};

use crate::command::Run;
use crate::workspace;

/// A measurement: its name, what it measures, and how.
type Bench = (&'static str, &'static str, fn() -> anyhow::Result<()>);

const BENCHES: [Bench; 4] = [
    (
        "pipeline",
        "commit to hosted image, against bench/pipeline/baseline.sh (about 30 minutes)",
        pipeline::run,
    ),
    (
        "cluster",
        "jobs on Kubernetes, against a Tekton task by hand: overhead, requests, queues, memory (about 20 \
         minutes after a release build)",
        cluster::all,
    ),
    (
        "fleet",
        "100,000 devices: polls, against a registry that knows no devices; a reconnect storm, a gate's decision \
         (about 15 minutes)",
        fleet::run,
    ),
    ("vm", "digest to a tested virtual machine, against bench/vm/baseline.sh (about 10 minutes)", vm::run),
];

/// Lists all measurements.
pub(crate) fn list() {
    for (name, about, _) in BENCHES {
        println!("{name:12}  {about}");
    }
}

/// Simulates rollouts. Its goals are about the gate's decisions, not about time.
pub(crate) fn sim(options: &[&str]) -> anyhow::Result<()> {
    let folder = workspace::target().join("bench");
    std::fs::create_dir_all(&folder)?;
    let run = Run::new("cargo").args(["run", "--quiet", "--locked", "--package", "edgewright-sim", "--"]);
    run.args(["--out"]).arg(folder.join("sim.json")).args(options).inherit().run()
}

/// Runs one by its name, or some parts of it.
pub(crate) fn run(name: &str, parts: &[&str]) -> anyhow::Result<()> {
    if name == "cluster" && !parts.is_empty() {
        return cluster::run(parts);
    }
    ensure!(parts.is_empty(), "the bench `{name}` has no parts: leave out `{}`", parts.join(" "));
    match BENCHES.iter().find(|(known, _, _)| *known == name) {
        Some((_, _, measure)) => measure(),
        None => bail!("unknown bench `{name}`: `cargo xtask bench` lists all"),
    }
}
