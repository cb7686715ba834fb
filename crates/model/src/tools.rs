//! Versions of the programs that execute steps.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The programs that decide about the bytes of `bootstrap` steps.
pub const BOOTSTRAP_TOOLS: [&str; 3] = ["apt", "dpkg", "mmdebstrap"];
/// Those of `containerfile` steps. Runtimes and network tools change no bytes.
pub const CONTAINERFILE_TOOLS: [&str; 2] = ["buildah", PIPELINE];
/// What builds `containerfile` steps instead of a program of ours: a pipeline of the platform. Its version is
/// its name and its revision, `NAME@REVISION`.
pub const PIPELINE: &str = "pipeline";

/// A version without the epoch and the revision of a distribution's package: `1.39.3` of `1.39.3+ds1-1`.
pub fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version.split(['+', '-']).next().unwrap_or(version)
}

/// Versions by program, such as `buildah` → `1.39.3`, without the revision of a distribution's package.
/// Empty: not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ToolVersions(pub BTreeMap<String, String>);

impl ToolVersions {
    /// Nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only those of some programs.
    #[must_use]
    pub fn of(&self, programs: &[&str]) -> Self {
        let named = self.0.iter().filter(|(name, _)| programs.contains(&name.as_str()));
        Self(named.map(|(name, version)| (name.clone(), version.clone())).collect())
    }

    /// What differs from an earlier state, such as `buildah 1.38.1 → 1.39.3`.
    pub fn changes_since(&self, earlier: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(earlier.0.keys()).collect();
        let version = |of: &Self, name: &String| of.0.get(name).map_or("unknown", String::as_str).to_owned();
        let changed = names.into_iter().filter(|name| self.0.get(*name) != earlier.0.get(*name));
        changed.map(|name| format!("{name} {} → {}", version(earlier, name), version(self, name))).collect()
    }
}

impl fmt::Display for ToolVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(|(name, version)| format!("{name} {version}")).collect();
        f.write_str(&all.join(", "))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for ToolVersions {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(versions: I) -> Self {
        Self(versions.into_iter().map(|(name, version)| (name.into(), version.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_no_epoch_and_no_revision() {
        for (version, expected) in [
            ("1.39.3+ds1-1+b7", "1.39.3"),
            ("1:10.0.2-1", "10.0.2"),
            ("2.0~rc1-1", "2.0~rc1"),
            ("3.0.4", "3.0.4"),
            ("", ""),
        ] {
            assert_eq!(upstream(version), expected);
        }
    }

    #[test]
    fn changes_name_programs_and_both_versions() {
        let before = ToolVersions::from_iter([("apt", "3.0.3"), ("buildah", "1.38.1"), ("crun", "1.21")]);
        let after = ToolVersions::from_iter([("apt", "3.0.3"), ("buildah", "1.39.3"), ("dpkg", "1.22")]);
        let changes = ["buildah 1.38.1 → 1.39.3", "crun 1.21 → unknown", "dpkg unknown → 1.22"];
        assert_eq!(after.changes_since(&before), changes);
        assert_eq!(after.of(&["dpkg", "apt"]).to_string(), "apt 3.0.3, dpkg 1.22");
        assert!(after.changes_since(&after).is_empty());
    }
}
