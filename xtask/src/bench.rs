//! `bench`: measurements. Each compares with an alternative in the same run and reports which of its goals it
//! met.

mod cluster;
mod measure;
mod pipeline;
mod report;
mod vm;

use anyhow::bail;

/// A measurement: its name, what it measures, and how.
type Bench = (&'static str, &'static str, fn() -> anyhow::Result<()>);

const BENCHES: [Bench; 3] = [
    (
        "pipeline",
        "commit to hosted image, against bench/pipeline/baseline.sh (about 30 minutes)",
        pipeline::run,
    ),
    ("cluster", "jobs on Kubernetes: overhead, requests, queues, memory (about 15 minutes)", cluster::run),
    ("vm", "digest to a tested virtual machine, against bench/vm/baseline.sh (about 10 minutes)", vm::run),
];

/// Lists all measurements.
pub(crate) fn list() {
    for (name, about, _) in BENCHES {
        println!("{name:12}  {about}");
    }
}

/// Runs one by its name.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    match BENCHES.iter().find(|(known, _, _)| *known == name) {
        Some((_, _, measure)) => measure(),
        None => bail!("unknown bench `{name}`: `cargo xtask bench` lists all"),
    }
}
