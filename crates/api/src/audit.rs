//! The audit trail: who changed what.

use edgewright_model::principal::PrincipalId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its number; later changes have higher ones.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Who: `operator:token`, `hook:plants`, `system:channels`.
    #[schema(value_type = String)]
    pub actor: PrincipalId,
    /// What was done, such as `run.cancel`.
    pub operation: String,
    /// What was changed, such as `runs/7` or `plants/channels/stable`.
    pub object: String,
    /// Its state before; absent where it did not exist or is of no interest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub before: Option<Value>,
    /// Its state afterwards; absent where it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub after: Option<Value>,
    /// The request, as `X-Request-Id` of its response and `request.id` of its log lines; absent for the server's own
    /// changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// A page of the audit trail, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The changes.
    pub entries: Vec<AuditEntry>,
    /// `cursor` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which changes are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only of this principal.
    pub actor: Option<PrincipalId>,
    /// Only this operation.
    pub operation: Option<String>,
    /// Only this object.
    pub object: Option<String>,
    /// Only at or after this time.
    pub since: Option<Timestamp>,
    /// How many at most.
    pub limit: u32,
    /// The `next` of the page before.
    pub cursor: Option<String>,
}
