//! `pull_requests` of a source: `true`, or a table that says which.

use std::fmt;

use edgewright_control::PullRequestPolicy;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Which pull requests are run; `false` none, `true` all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequestOptions(pub Option<PullRequestPolicy>);

/// Who may open those that are run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum From {
    /// Everybody who can.
    #[default]
    Anywhere,
    /// Who may push branches to the repository.
    Branches,
}

/// `pull_requests = {…}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    from: From,
    into: Vec<String>,
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
        let Table { from, into } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(PullRequestOptions(Some(PullRequestPolicy { from_branches: from == From::Branches, into })))
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
            ("\"yes\"", "want true"),
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
