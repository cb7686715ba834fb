//! Who may approve, and when there are enough approvals: pure rules, for stages whose policy asks for
//! approvals.
//!
//! Two people means two principals: the authors of an order never approve it, and an approval counts once,
//! however often it is given. Whether a principal may approve at all is decided by
//! [`crate::access::may`] with [`crate::access::Operation::ApproveRollout`].

use std::collections::BTreeSet;

use edgewright_model::principal::{PrincipalId, PrincipalKind};

/// Why an approval does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCounted {
    /// The approver ordered it.
    #[error("who ordered the release cannot approve it")]
    OwnOrder,
    /// The approver approved it before.
    #[error("this principal approved it before; another one has to")]
    Repeated,
    /// Not a person: the server, a job, a device or a webhook.
    #[error("only users and the operator approve")]
    NotAPerson,
    /// The token of the operator is shared: it does not identify who holds it.
    #[error("the token of the operator is shared and does not identify a person; log in as a user")]
    Shared,
}

/// What is still needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approval {
    /// Enough approvals.
    Complete,
    /// So many more, by principals that have not approved yet.
    Missing(u32),
}

/// Whether an approval counts, beside those that were given before.
///
/// The operator's token may approve where one approval is enough: it is the only identity of a server without
/// users. Where two are needed, only users count.
///
/// # Errors
/// It does not count.
pub fn counts(
    approver: &PrincipalId,
    authors: &BTreeSet<PrincipalId>,
    given: &BTreeSet<PrincipalId>,
    needed: u32,
) -> Result<(), NotCounted> {
    match approver.kind() {
        PrincipalKind::User => {}
        PrincipalKind::Operator if needed <= 1 => {}
        PrincipalKind::Operator => return Err(NotCounted::Shared),
        _ => return Err(NotCounted::NotAPerson),
    }
    // With one approval and the operator's token as the only identity, author and approver are the same.
    if authors.contains(approver) && (needed > 1 || approver.kind() == PrincipalKind::User) {
        return Err(NotCounted::OwnOrder);
    }
    if given.contains(approver) {
        return Err(NotCounted::Repeated);
    }
    Ok(())
}

/// Whether the approvals given are enough. Approvals that do not count are left out, whatever was stored.
pub fn approval(authors: &BTreeSet<PrincipalId>, given: &BTreeSet<PrincipalId>, needed: u32) -> Approval {
    let none = BTreeSet::new();
    let counted = given.iter().filter(|approver| counts(approver, authors, &none, needed).is_ok()).count();
    match needed.saturating_sub(u32::try_from(counted).unwrap_or(u32::MAX)) {
        0 => Approval::Complete,
        missing => Approval::Missing(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> PrincipalId {
        text.parse().unwrap()
    }

    fn ids(texts: &[&str]) -> BTreeSet<PrincipalId> {
        texts.iter().map(|text| id(text)).collect()
    }

    #[test]
    fn two_approvals_are_two_other_users() {
        for (approver, author, given, needed, expected) in [
            ("user:anna", "user:otto", &[][..], 2, Ok(())),
            ("user:eva", "user:otto", &["user:anna"], 2, Ok(())),
            ("user:anna", "user:otto", &["user:anna"], 2, Err(NotCounted::Repeated)),
            ("user:otto", "user:otto", &[], 2, Err(NotCounted::OwnOrder)),
            ("user:otto", "user:otto", &[], 1, Err(NotCounted::OwnOrder)),
            // The same name at the provider is another principal than a local user, and audited as one.
            ("user:otto@id.example.org", "user:otto", &[], 2, Ok(())),
            ("operator:token", "user:otto", &[], 2, Err(NotCounted::Shared)),
            ("operator:token", "user:otto", &[], 1, Ok(())),
            ("operator:token", "operator:token", &[], 1, Ok(())),
            ("system:rollouts", "user:otto", &[], 1, Err(NotCounted::NotAPerson)),
            ("anonymous", "user:otto", &[], 1, Err(NotCounted::NotAPerson)),
            ("device:press-1", "user:otto", &[], 1, Err(NotCounted::NotAPerson)),
        ] {
            let decision = counts(&id(approver), &ids(&[author]), &ids(given), needed);
            assert_eq!(decision, expected, "{approver} of {author}'s, {needed} needed");
        }
    }

    #[test]
    fn approvals_are_complete_when_enough_of_them_count() {
        let authors = ids(&["user:otto"]);
        for (given, needed, expected) in [
            (&[][..], 0, Approval::Complete),
            (&[], 2, Approval::Missing(2)),
            (&["user:anna"], 2, Approval::Missing(1)),
            (&["user:anna", "user:otto"], 2, Approval::Missing(1)),
            (&["user:anna", "operator:token"], 2, Approval::Missing(1)),
            (&["user:anna", "user:eva"], 2, Approval::Complete),
            (&["operator:token"], 1, Approval::Complete),
        ] {
            assert_eq!(approval(&authors, &ids(given), needed), expected, "{given:?} of {needed}");
        }
    }
}
