//! The error of a command.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The error of a command that was called with `--json`. It is one object on one line, the last line of
/// standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDocument {
    /// The error.
    pub error: CommandError,
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandError {
    /// Class of the error: `user_fault` (exit code 2; 1 if a source's files have errors), `not_found` (3),
    /// `conflict` and `denied` (4), `unavailable` (5), `bug` (70) or `stopped` (130).
    pub code: String,
    /// What failed and why.
    pub message: String,
    /// What to do about it; null if there is no advice.
    pub hint: Option<String>,
}
