//! `pull_requests` of a source: `true`, `false`, or a table that selects some.

use std::fmt;

use edgewright_control::PullRequestPolicy;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::described::{Kind, described};

/// Which pull requests are run; `false` none, `true` all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequestOptions(pub Option<PullRequestPolicy>);

impl Kind for PullRequestOptions {
    const NAME: &'static str = "boolean or table";
    const EXAMPLE: &'static str = "{from = \"branches\", into = [\"main\"]}";
}

/// Where the head of a pull request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Anywhere, forks included.
    Anywhere,
    /// On a branch of the repository itself.
    Branches,
}

impl Kind for Origin {
    const NAME: &'static str = "`\"anywhere\"` or `\"branches\"`";
    const EXAMPLE: &'static str = "\"branches\"";
}

described! {
    /// `[source.pull_requests]`.
    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct PullRequestTable: "source.pull_requests" {
        /// Where their head may be: `branches` runs only those whose head is a branch of the repository
        /// itself, so that their author may push to it. Pull requests run code on the build machine: use
        /// `branches` unless you trust everyone who may open one.
        pub from: Option<Origin> { Reload, default: "anywhere" }
        /// Run only those into these branches. A pull request counts for the branch that is missing the
        /// fewest of its commits.
        pub into: Option<Vec<String>> { Reload, default: "all branches" }
    }
}

impl<'de> Deserialize<'de> for PullRequestOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = PullRequestOptions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or a table such as {from = \"branches\", into = [\"main\"]}")
    }

    fn visit_bool<E>(self, wanted: bool) -> Result<Self::Value, E> {
        Ok(PullRequestOptions(wanted.then(PullRequestPolicy::default)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let PullRequestTable { from, into } = PullRequestTable::deserialize(MapAccessDeserializer::new(map))?;
        let from_branches = from == Some(Origin::Branches);
        Ok(PullRequestOptions(Some(PullRequestPolicy { from_branches, into: into.unwrap_or_default() })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Source {
        pull_requests: PullRequestOptions,
    }

    #[test]
    fn all_none_or_some() {
        let parse = |text: &str| {
            let source: Result<Source, _> = toml::from_str(&format!("pull_requests = {text}"));
            source.map(|source| source.pull_requests.0).map_err(|error| error.to_string())
        };
        assert_eq!(parse("false"), Ok(None));
        assert_eq!(parse("true"), Ok(Some(PullRequestPolicy::default())));
        assert_eq!(parse("{}"), Ok(Some(PullRequestPolicy::default())));
        let wanted = PullRequestPolicy { from_branches: true, into: vec!["main".to_owned()] };
        assert_eq!(parse("{from = \"branches\", into = [\"main\"]}"), Ok(Some(wanted)));
        for (text, part) in [
            ("\"yes\"", "expected true"),
            ("{form = \"branches\"}", "unknown field `form`"),
            ("{from = \"forks\"}", "unknown variant `forks`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains(part) || error.contains("expected true, false, or a table"),
                "{text}: {error}"
            );
        }
    }
}
