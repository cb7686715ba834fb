//! The audit trail: which principal changed what.

use edgewright_model::Digest;
use edgewright_model::audit::{Broken, Row, Verifier};
use edgewright_model::principal::PrincipalId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Number of the entry; later changes have higher numbers.
    pub number: u64,
    /// Time of the change.
    pub at: Timestamp,
    /// Principal that made the change: `operator:token`, `hook:plants`, `system:channels`.
    #[schema(value_type = String)]
    pub actor: PrincipalId,
    /// Operation, such as `run.cancel`.
    pub operation: String,
    /// Object that was changed, such as `runs/7` or `plants/channels/stable`.
    pub object: String,
    /// State of the object before the change; absent if it did not exist or is not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub before: Option<Value>,
    /// State of the object after the change; absent if it no longer exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub after: Option<Value>,
    /// Id of the request: `X-Request-Id` of its response, `request.id` of its log lines; absent if the server
    /// made the change by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Hash of the entry before; 64 zeros for the first one.
    #[schema(value_type = String)]
    pub previous: Digest,
    /// Hash of this entry: SHA-256 of its JSON without `hash`, without spaces, with sorted keys.
    #[schema(value_type = String)]
    pub hash: Digest,
}

impl AuditEntry {
    /// Verifies that it continues the entries that a verifier has seen.
    ///
    /// # Errors
    /// It was changed, or is not the next one.
    pub fn verify(&self, verifier: &mut Verifier) -> Result<(), Broken> {
        let row = Row {
            number: self.number,
            at: &self.at.to_string(),
            actor: &self.actor.to_string(),
            operation: &self.operation,
            object: &self.object,
            before: self.before.as_ref(),
            after: self.after.as_ref(),
            request: self.request.as_deref(),
            previous: &self.previous,
        };
        verifier.push(&row, &self.hash)
    }
}

/// A page of the audit trail, newest first; oldest first if it was asked for by `after`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// Changes.
    pub entries: Vec<AuditEntry>,
    /// Cursor of the next page (`--cursor`, or the parameter `cursor`); absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A filter for changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only changes by this principal.
    pub actor: Option<PrincipalId>,
    /// Only this operation.
    pub operation: Option<String>,
    /// Only this object.
    pub object: Option<String>,
    /// Only changes at or after this time.
    pub since: Option<Timestamp>,
    /// Maximum number of entries.
    pub limit: u32,
    /// `next` of the previous page.
    pub cursor: Option<String>,
    /// Only changes with higher numbers, and these oldest first.
    pub after: Option<u64>,
}
