//! The arguments of `fuzz`.

use anyhow::{Context as _, bail};

use super::TARGETS;

/// How long each target runs in CI and by default, in seconds.
const SECONDS: u64 = 60;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) targets: Vec<&'static str>,
    pub(super) seconds: u64,
    /// Where mutations start: the same seed makes the same inputs, as long as the code is the same.
    pub(super) seed: Option<u32>,
    /// Whether found inputs that cover more are kept.
    pub(super) keep: bool,
}

impl Options {
    pub(super) fn parse(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self { targets: Vec::new(), seconds: SECONDS, seed: None, keep: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match *argument {
                "--keep" => options.keep = true,
                "--seconds" => {
                    let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
                    // libFuzzer reads 0 as without end.
                    let seconds = seconds.filter(|seconds| *seconds > 0);
                    options.seconds = seconds.context("`--seconds` needs a number from 1")?;
                }
                "--seed" => {
                    let seed = arguments.next().and_then(|seed| seed.parse().ok());
                    // libFuzzer takes 0 as the time of day.
                    let seed = seed.filter(|seed| *seed > 0);
                    options.seed = Some(seed.context("`--seed` needs a number from 1")?);
                }
                name => match TARGETS.into_iter().find(|target| *target == name) {
                    Some(target) => options.targets.push(target),
                    None => bail!("unknown fuzz target `{name}`: write one of {}", TARGETS.join(", ")),
                },
            }
        }
        if options.targets.is_empty() {
            options.targets = TARGETS.to_vec();
        }
        options.targets.sort_unstable();
        options.targets.dedup();
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_seconds_are_read() {
        let all = Options::parse(&[]).unwrap();
        assert_eq!((all.targets.len(), all.seconds, all.keep), (TARGETS.len(), SECONDS, false));
        let some =
            Options::parse(&["tree", "layer", "tree", "--seconds", "5", "--seed", "7", "--keep"]).unwrap();
        assert_eq!(some, Options { targets: vec!["layer", "tree"], seconds: 5, seed: Some(7), keep: true });
        for bad in
            [&["trees"][..], &["--seconds"], &["--seconds", "0"], &["--seconds", "x"], &["--seed", "0"]]
        {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }
}
