//! Which checks the last good digest was released without: that it fails them, too, does not show when the
//! fault came.

use std::collections::{BTreeMap, BTreeSet};

use edgewright_model::names::CheckId;
use edgewright_model::spec::{Check, Lane};
use edgewright_model::verdict::Note;

/// The checks that a digest was released with, by lane.
pub(crate) type ReleasedChecks = BTreeMap<Lane, Vec<Check>>;

/// What is new in a lane since the last release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Novelty {
    /// Whether the lane was switched on.
    lane: bool,
    /// Checks that were added, or changed in anything, wherever they are declared.
    checks: BTreeSet<CheckId>,
}

impl Novelty {
    /// Compares the lane's checks with those that the last good digest was released with.
    pub(crate) fn of(lane: Lane, checks: &[Check], released: &ReleasedChecks) -> Self {
        let before = released.get(&lane);
        let is_known = |check: &&Check| before.is_some_and(|before| before.contains(check));
        let new = checks.iter().filter(|check| !is_known(check)).map(|check| check.id.clone());
        Self { lane: before.is_none(), checks: new.collect() }
    }

    /// Everything is new: the last good digest was tested with these checks for comparison only.
    pub(crate) fn all(checks: &[Check]) -> Self {
        Self { lane: true, checks: checks.iter().map(|check| check.id.clone()).collect() }
    }

    /// Whether a check is new; without one, the lane.
    pub(crate) fn has(&self, check: Option<&CheckId>) -> bool {
        check.map_or(self.lane, |check| self.lane || self.checks.contains(check))
    }

    /// Whether a note calls something `not new` that is.
    pub(crate) fn contradicts(&self, note: &Note) -> bool {
        matches!(note, Note::NotNew { check, .. } if self.has(check.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use edgewright_model::spec::Assertion;

    use super::*;

    fn check(id: &str, port: u16, within: &str) -> Check {
        let assert = Assertion::Port { host: "localhost".to_owned(), port };
        Check { id: id.parse().unwrap(), assert, within: within.parse().unwrap(), lanes: None }
    }

    #[test]
    fn a_check_is_new_if_anything_of_it_changed_since_the_release() {
        let released =
            ReleasedChecks::from([(Lane::Container, vec![check("a", 1, "1s"), check("b", 1, "1s")])]);
        let now = [check("a", 1, "1s"), check("b", 2, "1s"), check("c", 1, "1s")];
        let novelty = Novelty::of(Lane::Container, &now, &released);
        let has = |id: &str| novelty.has(Some(&id.parse().unwrap()));
        assert_eq!((has("a"), has("b"), has("c"), novelty.has(None)), (false, true, true, false));
        let shorter = Novelty::of(Lane::Container, &[check("a", 1, "500ms")], &released);
        assert!(shorter.has(Some(&"a".parse().unwrap())), "another time limit");
        let other = Novelty::of(Lane::Static, &now[..1], &released);
        assert!(other.has(None) && other.has(Some(&"a".parse().unwrap())), "the lane was off");
    }
}
