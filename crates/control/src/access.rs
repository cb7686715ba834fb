//! Who may have control do what: one pure function. The server's table decides about requests; this decides
//! about operations, whichever way they come in.

use edgewright_model::principal::{Principal, PrincipalKind};
use edgewright_model::role::{Permission, Scope};

/// What control does when it is asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Poll a source now.
    PollSource,
    /// Queue a run of a commit.
    QueueRun,
    /// Narrow a run to some of its variants or lanes.
    SelectRun,
    /// End an open run.
    CancelRun,
    /// Queue a run's commit again.
    RetryRun,
    /// Resolve a source's locks again.
    UpdateLocks,
    /// Record what another system found about a digest.
    PostVerdict,
    /// Build a digest again.
    Rebuild,
    /// Give out the objects of a job.
    ExportJob,
    /// Move a channel.
    MoveChannel,
    /// Keep a channel from moving.
    HoldChannel,
    /// Let a channel move again.
    ResumeChannel,
    /// Fix a channel to a release.
    PinChannel,
    /// Undo that.
    UnpinChannel,
    /// Move a channel to a release before its turn.
    Promote,
    /// Move a channel back, and quarantine what it had.
    RollBack,
    /// End the quarantine of a digest.
    ClearQuarantine,
    /// Keep a rollout from offering its release to further devices.
    PauseRollout,
    /// Let it offer it again.
    ResumeRollout,
    /// End it.
    AbortRollout,
    /// Let a stage begin.
    ApproveRollout,
    /// Skip windows, rate and soaks.
    HurryRollout,
    /// Write a manifest or a tag into the registry.
    PushManifest,
    /// Delete a manifest or a tag of the registry.
    DeleteManifest,
    /// Delete a blob of the registry.
    DeleteBlob,
    /// Record what a device reports.
    ReportDevice,
    /// Make a token for devices, or enrol one by it.
    EnrolDevice,
    /// Let a device that waits join the fleet.
    ApproveDevice,
    /// Keep a device at what it has.
    HoldDevice,
    /// End that.
    ReleaseDevice,
    /// Fix a device to a release.
    PinDevice,
    /// Undo that.
    UnpinDevice,
    /// End a device's credentials.
    RevokeDevice,
    /// Take a device out of the fleet.
    RetireDevice,
    /// Give a device another credential.
    RotateDevice,
    /// Add or change a user.
    SetUser,
    /// Remove a user with all tokens.
    RemoveUser,
    /// Issue a token of a user.
    IssueToken,
    /// Revoke tokens of a user.
    RevokeToken,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 39] = [
        Self::PollSource,
        Self::QueueRun,
        Self::SelectRun,
        Self::CancelRun,
        Self::RetryRun,
        Self::UpdateLocks,
        Self::PostVerdict,
        Self::Rebuild,
        Self::ExportJob,
        Self::MoveChannel,
        Self::HoldChannel,
        Self::ResumeChannel,
        Self::PinChannel,
        Self::UnpinChannel,
        Self::Promote,
        Self::RollBack,
        Self::ClearQuarantine,
        Self::PauseRollout,
        Self::ResumeRollout,
        Self::AbortRollout,
        Self::ApproveRollout,
        Self::HurryRollout,
        Self::PushManifest,
        Self::DeleteManifest,
        Self::DeleteBlob,
        Self::ReportDevice,
        Self::EnrolDevice,
        Self::ApproveDevice,
        Self::HoldDevice,
        Self::ReleaseDevice,
        Self::PinDevice,
        Self::UnpinDevice,
        Self::RevokeDevice,
        Self::RetireDevice,
        Self::RotateDevice,
        Self::SetUser,
        Self::RemoveUser,
        Self::IssueToken,
        Self::RevokeToken,
    ];

    /// Its name in the audit trail and in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PollSource => "source.poll",
            Self::QueueRun => "run.queue",
            Self::SelectRun => "run.select",
            Self::CancelRun => "run.cancel",
            Self::RetryRun => "run.retry",
            Self::UpdateLocks => "locks.update",
            Self::PostVerdict => "verdict.post",
            Self::Rebuild => "digest.rebuild",
            Self::ExportJob => "job.export",
            Self::MoveChannel => "channel.move",
            Self::HoldChannel => "channel.hold",
            Self::ResumeChannel => "channel.resume",
            Self::PinChannel => "channel.pin",
            Self::UnpinChannel => "channel.unpin",
            Self::Promote => "channel.promote",
            Self::RollBack => "channel.roll_back",
            Self::ClearQuarantine => "quarantine.clear",
            Self::PauseRollout => "rollout.pause",
            Self::ResumeRollout => "rollout.resume",
            Self::AbortRollout => "rollout.abort",
            Self::ApproveRollout => "rollout.approve",
            Self::HurryRollout => "rollout.urgent",
            Self::PushManifest => "registry.push",
            Self::DeleteManifest => "registry.delete",
            Self::DeleteBlob => "registry.delete_blob",
            Self::ReportDevice => "device.report",
            Self::EnrolDevice => "device.enrol",
            Self::ApproveDevice => "device.approve",
            Self::HoldDevice => "device.hold",
            Self::ReleaseDevice => "device.release",
            Self::PinDevice => "device.pin",
            Self::UnpinDevice => "device.unpin",
            Self::RevokeDevice => "device.revoke",
            Self::RetireDevice => "device.retire",
            Self::RotateDevice => "device.rotate",
            Self::SetUser => "user.set",
            Self::RemoveUser => "user.remove",
            Self::IssueToken => "user.token",
            Self::RevokeToken => "user.revoke",
        }
    }

    /// What it needs of a user.
    pub const fn permission(self) -> Permission {
        match self {
            Self::ApproveRollout | Self::ApproveDevice => Permission::Approve,
            Self::SetUser | Self::RemoveUser | Self::IssueToken | Self::RevokeToken => Permission::Administer,
            _ => Permission::Operate,
        }
    }
}

/// An operation that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a principal of kind {kind} may not {}", .operation.name())]
pub struct NotPermitted {
    /// Who asked.
    pub kind: PrincipalKind,
    /// For what.
    pub operation: Operation,
}

/// Whether a principal may have an operation done, on what it is about. What an operation is about without
/// naming it, such as a digest of any source, needs a role without a scope.
///
/// # Errors
/// It may not.
pub fn may<'a>(
    principal: &Principal,
    operation: Operation,
    scope: impl Into<Scope<'a>>,
) -> Result<(), NotPermitted> {
    let scope = scope.into();
    let is_permitted = match principal {
        Principal::Operator { .. } | Principal::System { .. } => true,
        Principal::User { grants, .. } => {
            grants.iter().any(|grant| grant.permits(operation.permission(), &scope))
        }
        Principal::Hook { source: own } => operation == Operation::PollSource && scope.source == Some(own),
        Principal::Device { id: None } => operation == Operation::ReportDevice,
        Principal::Device { id: Some(_) } => {
            matches!(operation, Operation::ReportDevice | Operation::RotateDevice)
        }
        Principal::Anonymous | Principal::Job { .. } => false,
    };
    if is_permitted { Ok(()) } else { Err(NotPermitted { kind: principal.kind(), operation }) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edgewright_model::names::SourceName;
    use edgewright_model::order::JobId;

    use super::*;

    #[test]
    fn only_operators_and_the_server_itself_operate() {
        let own: SourceName = "plants".parse().unwrap();
        let other: SourceName = "other".parse().unwrap();
        let job = Principal::Job { id: JobId(uuid::Uuid::nil()), grants: Arc::default() };
        let hook = Principal::Hook { source: own.clone() };
        let mut names = std::collections::BTreeSet::new();
        for operation in Operation::ALL {
            assert!(names.insert(operation.name()), "{operation:?}");
            for (principal, expected) in [
                (&Principal::Anonymous, false),
                (&job, false),
                (&Principal::Operator { name: "token" }, true),
                (&Principal::System { component: "runs" }, true),
                (&hook, operation == Operation::PollSource),
            ] {
                let decision = may(principal, operation, Some(&own));
                assert_eq!(decision.is_ok(), expected, "{principal} {}", operation.name());
            }
            assert!(may(&hook, operation, Some(&other)).is_err() && may(&hook, operation, None).is_err());
        }
    }

    #[test]
    fn users_operate_approve_and_administer_by_their_roles() {
        let (plants, tools): (SourceName, SourceName) = ("plants".parse().unwrap(), "tools".parse().unwrap());
        let user = |grants: &[&str]| Principal::User {
            name: "anna".into(),
            grants: grants.iter().map(|grant| grant.parse().unwrap()).collect(),
        };
        for operation in Operation::ALL {
            let permission = operation.permission();
            assert!(permission != Permission::Read, "{operation:?} changes something");
            for (grants, expected) in [
                (&[][..], false),
                (&["viewer"], false),
                (&["operator"], permission == Permission::Operate),
                (&["approver"], permission == Permission::Approve),
                (&["operator", "approver"], permission != Permission::Administer),
                (&["admin"], true),
                (&["viewer", "admin:source=plants"], true),
                (&["admin:source=tools"], false),
            ] {
                let decision = may(&user(grants), operation, Some(&plants));
                assert_eq!(decision.is_ok(), expected, "{grants:?} {}", operation.name());
            }
            let scoped = user(&["admin:source=plants"]);
            assert!(may(&scoped, operation, Some(&tools)).is_err() && may(&scoped, operation, None).is_err());
        }
    }
}
