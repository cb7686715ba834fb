//! `bench`: measurements. Each compares with a real rival in the same run and says which of its goals it met.

mod measure;
mod pipeline;
mod report;

use anyhow::bail;

/// A measurement: its name, what it measures, and how.
type Bench = (&'static str, &'static str, fn() -> anyhow::Result<()>);

const BENCHES: [Bench; 1] = [(
    "pipeline",
    "commit to hosted image, against bench/pipeline/baseline.sh (about 30 minutes)",
    pipeline::run,
)];

/// Prints what there is.
pub(crate) fn list() {
    for (name, about, _) in BENCHES {
        println!("{name:12}  {about}");
    }
}

/// Runs one.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    match BENCHES.iter().find(|(known, _, _)| *known == name) {
        Some((_, _, measure)) => measure(),
        None => bail!("no bench is called `{name}`; `cargo xtask bench` lists what there is"),
    }
}
