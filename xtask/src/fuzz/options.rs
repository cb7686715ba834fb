//! The arguments of `fuzz`.

use anyhow::{Context as _, bail};

use super::TARGETS;

/// How long each target runs by default, in seconds.
const SECONDS: u32 = 60;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) targets: Vec<&'static str>,
    pub(super) extent: Extent,
    /// Whether found inputs that cover more are kept.
    pub(super) keep: bool,
}

/// How far a target is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// For so long, each time elsewhere.
    Seconds(u32),
    /// From this seed and the kept inputs: the same number of inputs each time, and the same ones as long as
    /// the code is the same. Only `layer`, which compresses on a second thread, differs a little.
    Seed(u32),
}

impl Options {
    pub(super) fn parse(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self { targets: Vec::new(), extent: Extent::Seconds(SECONDS), keep: false };
        let mut arguments = arguments.iter();
        let (mut seconds, mut seed) = (None, None);
        while let Some(argument) = arguments.next() {
            match *argument {
                "--keep" => options.keep = true,
                "--seconds" => seconds = Some(Extent::Seconds(number(argument, arguments.next())?)),
                "--seed" => seed = Some(Extent::Seed(number(argument, arguments.next())?)),
                name => match TARGETS.into_iter().find(|(target, _)| *target == name) {
                    Some((target, _)) => options.targets.push(target),
                    None => bail!("unknown fuzz target `{name}`: write one of {}", names().join(", ")),
                },
            }
        }
        if seconds.is_some() && seed.is_some() {
            bail!("`--seed` repeats a search and `--seconds` ends one by time: write one of them");
        }
        options.extent = seed.or(seconds).unwrap_or(options.extent);
        if options.targets.is_empty() {
            options.targets = names();
        }
        options.targets.sort_unstable();
        options.targets.dedup();
        Ok(options)
    }
}

/// A number that libFuzzer takes as one: 0 is without end, or the time of day.
fn number(option: &str, value: Option<&&str>) -> anyhow::Result<u32> {
    let number = value.and_then(|value| value.parse().ok()).filter(|number| *number > 0);
    number.with_context(|| format!("`{option}` needs a number from 1"))
}

fn names() -> Vec<&'static str> {
    TARGETS.into_iter().map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_extents_are_read() {
        let all = Options::parse(&[]).unwrap();
        assert_eq!((all.targets.len(), all.extent), (TARGETS.len(), Extent::Seconds(SECONDS)));
        let some = Options::parse(&["tree", "layer", "tree", "--seconds", "5", "--keep"]).unwrap();
        let extent = Extent::Seconds(5);
        assert_eq!(some, Options { targets: vec!["layer", "tree"], extent, keep: true });
        assert_eq!(Options::parse(&["--seed", "7"]).unwrap().extent, Extent::Seed(7));
        for bad in [
            &["trees"][..],
            &["--seconds"],
            &["--seconds", "0"],
            &["--seconds", "x"],
            &["--seed", "0"],
            &["--seed", "1", "--seconds", "1"],
        ] {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }
}
