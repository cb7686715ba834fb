//! The result of a poll: a pure comparison of two states of a remote.

use std::collections::BTreeSet;

use edgewright_model::names::CommitId;

use crate::parse::RemoteRefs;

/// The followed branches of a remote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followed {
    /// The current default branch.
    pub default_branch: bool,
    /// Branches by name.
    pub branches: BTreeSet<String>,
}

impl Followed {
    /// The names of the followed branches, with the default branch of `refs`.
    pub fn names(&self, refs: &RemoteRefs) -> BTreeSet<String> {
        let default = refs.default_branch.iter().filter(|_| self.default_branch);
        self.branches.iter().chain(default).cloned().collect()
    }
}

/// One change of a followed branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefChange {
    /// It is new, or newly followed.
    Appeared {
        /// The branch.
        branch: String,
        /// Its commit.
        to: CommitId,
    },
    /// It points to another commit, after a push or a force-push.
    Moved {
        /// The branch.
        branch: String,
        /// Its previous commit.
        from: CommitId,
        /// Its commit.
        to: CommitId,
    },
    /// It was deleted, or never existed.
    Missing {
        /// The branch.
        branch: String,
        /// Its last commit, if it ever existed.
        from: Option<CommitId>,
    },
    /// The default branch is another one now; the change of that branch is separate.
    DefaultRenamed {
        /// The earlier default branch.
        from: Option<String>,
        /// The default branch now.
        to: Option<String>,
    },
}

/// Compares two states of a remote. The order is: a renamed default branch first, then branches by name.
pub fn changed(before: Option<&RemoteRefs>, now: &RemoteRefs, followed: &Followed) -> Vec<RefChange> {
    let mut changes = Vec::new();
    if let Some(before) = before
        && followed.default_branch
        && before.default_branch != now.default_branch
    {
        changes.push(RefChange::DefaultRenamed {
            from: before.default_branch.clone(),
            to: now.default_branch.clone(),
        });
    }
    for branch in followed.names(now) {
        let from = before.and_then(|before| before.branches.get(&branch)).cloned();
        let to = now.branches.get(&branch).cloned();
        changes.extend(match (from, to) {
            (Some(from), Some(to)) if from == to => {
                // Newly followed because it became the default: treated as new.
                let known = before.is_some_and(|before| followed.names(before).contains(&branch));
                (!known).then_some(RefChange::Appeared { branch, to })
            }
            (Some(from), Some(to)) => Some(RefChange::Moved { branch, from, to }),
            (None, Some(to)) => Some(RefChange::Appeared { branch, to }),
            (Some(from), None) => Some(RefChange::Missing { branch, from: Some(from) }),
            // Reported once, not at every poll.
            (None, None) => before.is_none().then_some(RefChange::Missing { branch, from: None }),
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(digit: char) -> CommitId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn refs(default: &str, branches: &[(&str, char)]) -> RemoteRefs {
        RemoteRefs {
            default_branch: Some(default.to_owned()),
            branches: branches.iter().map(|(name, digit)| ((*name).to_owned(), commit(*digit))).collect(),
        }
    }

    #[test]
    fn every_change_of_a_followed_branch_is_reported_once() {
        let followed = Followed { default_branch: true, branches: ["dev".to_owned()].into() };
        let first = refs("main", &[("main", 'a'), ("dev", 'b'), ("other", 'c')]);
        let name = |text: &str| text.to_owned();
        assert_eq!(
            changed(None, &first, &followed),
            [
                RefChange::Appeared { branch: name("dev"), to: commit('b') },
                RefChange::Appeared { branch: name("main"), to: commit('a') },
            ]
        );
        assert_eq!(changed(Some(&first), &first, &followed), []);
        let moved = refs("main", &[("main", 'd'), ("other", 'e')]);
        assert_eq!(
            changed(Some(&first), &moved, &followed),
            [
                RefChange::Missing { branch: name("dev"), from: Some(commit('b')) },
                RefChange::Moved { branch: name("main"), from: commit('a'), to: commit('d') },
            ]
        );
        assert_eq!(changed(Some(&moved), &moved, &followed), []);
        let renamed = refs("other", &[("other", 'e'), ("dev", 'b')]);
        assert_eq!(
            changed(Some(&moved), &renamed, &followed),
            [
                RefChange::DefaultRenamed { from: Some(name("main")), to: Some(name("other")) },
                RefChange::Appeared { branch: name("dev"), to: commit('b') },
                RefChange::Appeared { branch: name("other"), to: commit('e') },
            ]
        );
    }

    #[test]
    fn a_branch_that_never_existed_is_reported_by_the_first_poll() {
        let followed = Followed { default_branch: false, branches: ["gone".to_owned()].into() };
        let now = refs("main", &[("main", 'a')]);
        let missing = RefChange::Missing { branch: "gone".to_owned(), from: None };
        assert_eq!(changed(None, &now, &followed), [missing]);
        assert_eq!(changed(Some(&now), &now, &followed), []);
    }
}
