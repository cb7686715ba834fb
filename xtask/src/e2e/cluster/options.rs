//! The arguments of `e2e cluster`.

use anyhow::bail;

const USAGE: &str = "Usage: cargo xtask e2e cluster [--all] [--kubevirt | --kubevirt-once] [--keep] [SCENARIO…]\n       cargo xtask e2e cluster --list";

/// What is run, and on what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Only list the scenarios.
    pub(super) is_list: bool,
    /// Those that are run on request only, too.
    pub(super) is_all: bool,
    /// With KubeVirt.
    pub(super) has_kubevirt: bool,
    /// With KubeVirt if its scenarios have not passed yet with the KubeVirt in the cache.
    pub(super) is_kubevirt_once: bool,
    /// Work on the cluster of `cluster up`, started if there is none, and leave it there with all objects.
    pub(crate) is_kept: bool,
    /// The names of scenarios; all, if there are none.
    pub(super) names: Vec<String>,
}

impl Options {
    pub(super) fn parse(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        for argument in arguments {
            match *argument {
                "--list" => options.is_list = true,
                "--all" => options.is_all = true,
                "--kubevirt" => options.has_kubevirt = true,
                "--kubevirt-once" => options.is_kubevirt_once = true,
                "--keep" => options.is_kept = true,
                option if option.starts_with('-') => bail!("unknown option `{option}`\n\n{USAGE}"),
                name => options.names.push(name.to_owned()),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_options_are_in_any_order() {
        let options = Options::parse(&["release", "--keep", "quota"]).unwrap();
        assert_eq!((options.is_kept, options.is_all), (true, false));
        assert_eq!(options.names, ["release", "quota"]);
        let error = Options::parse(&["--fast"]).unwrap_err().to_string();
        assert!(error.contains("`--fast`") && error.contains("--kubevirt"), "{error}");
    }
}
