//! `bench`: measurements. Each is a name in [`BENCHES`].

use anyhow::bail;

/// A measurement: its name, what it measures, and how.
type Bench = (&'static str, &'static str, fn() -> anyhow::Result<()>);

/// What there is. The bound of `pipeline`, `bench/pipeline/baseline.sh`, is there; its measurement comes with issue B.
const BENCHES: [Bench; 0] = [];

/// Prints what there is.
pub(crate) fn list() {
    if BENCHES.is_empty() {
        println!("no benches yet");
    }
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
