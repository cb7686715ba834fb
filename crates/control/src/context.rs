//! The context of an operation: who asks for it, and in which request. Every public operation takes one.
//!
//! There is no default: a program that uses control without HTTP names the principal that it acts for
//! ([`OperationContext::operator_here`], [`OperationContext::system`]).

use std::fmt;

use edgewright_model::names::{DeviceId, SourceName};
use edgewright_model::principal::Principal;
use edgewright_model::role::Scope;
use edgewright_store::audit::NewAuditEntry;
use serde_json::Value;

use crate::access::{NotPermitted, Operation, may};

/// The id of a request: in its response, its log lines and the audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(uuid::Uuid);

impl RequestId {
    /// The id of a request that begins now; later ones sort after it.
    #[expect(clippy::new_without_default, reason = "each call gives another one")]
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who asks for an operation, and in which request.
#[derive(Debug, Clone)]
pub struct OperationContext {
    actor: Principal,
    request: Option<RequestId>,
}

impl OperationContext {
    /// Of a request whose principal is known.
    pub const fn of_request(actor: Principal, request: Option<RequestId>) -> Self {
        Self { actor, request }
    }

    /// Of the person whose command works on the data folder itself: the file permissions of the folder are
    /// the access control.
    pub const fn operator_here() -> Self {
        Self { actor: Principal::Operator { name: "command" }, request: None }
    }

    /// Of a part of the server.
    pub const fn system(component: &'static str) -> Self {
        Self { actor: Principal::System { component }, request: None }
    }

    /// Who asks.
    pub const fn actor(&self) -> &Principal {
        &self.actor
    }

    /// Whether the operation is permitted, on what it is about. Denied attempts are logged.
    ///
    /// # Errors
    /// It is not.
    pub fn permit<'a>(&self, operation: Operation, scope: impl Into<Scope<'a>>) -> Result<(), NotPermitted> {
        let decision = may(&self.actor, operation, scope);
        match &decision {
            Ok(()) => tracing::debug!(principal = %self.actor, operation = operation.name(), "permitted"),
            Err(error) => {
                tracing::warn!(principal = %self.actor, operation = operation.name(), "refused: {error}");
            }
        }
        decision
    }

    /// Whether the operation is permitted on what is in several sources: in each of them. On what is in none,
    /// it needs a role without a scope.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn permit_in(&self, operation: Operation, sources: &[SourceName]) -> Result<(), NotPermitted> {
        if sources.is_empty() {
            return self.permit(operation, None);
        }
        sources.iter().try_for_each(|source| self.permit(operation, Some(source)))
    }

    /// Whether the operation is permitted on this device: a device may do it on itself alone.
    ///
    /// # Errors
    /// It is not.
    pub fn permit_device(&self, operation: Operation, device: &DeviceId) -> Result<(), NotPermitted> {
        match &self.actor {
            Principal::Device { id: Some(own) } if own != device => {
                tracing::warn!(principal = %self.actor, operation = operation.name(), device.id = %device, "refused: another device");
                Err(NotPermitted { kind: self.actor.kind(), operation })
            }
            _ => Ok(()),
        }
    }

    /// The row of the audit trail for a change of `object`.
    pub fn entry(
        &self,
        operation: Operation,
        object: impl fmt::Display,
        before: Option<Value>,
        after: Option<Value>,
    ) -> NewAuditEntry {
        NewAuditEntry {
            actor: self.actor.id(),
            operation: operation.name().to_owned(),
            object: object.to_string(),
            before,
            after,
            request: self.request.map(|request| request.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_actor_operation_object_and_request() {
        let request = RequestId::new();
        let context = OperationContext::of_request(Principal::Operator { name: "token" }, Some(request));
        let entry =
            context.entry(Operation::CancelRun, "runs/7", Some("running".into()), Some("cancelled".into()));
        assert_eq!(entry.actor.to_string(), "operator:token");
        assert_eq!((entry.operation.as_str(), entry.object.as_str()), ("run.cancel", "runs/7"));
        assert_eq!(entry.request, Some(request.to_string()));
        assert_eq!(
            OperationContext::system("poll").entry(Operation::QueueRun, "x", None, None).request,
            None
        );
    }
}
