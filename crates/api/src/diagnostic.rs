//! Diagnostics: errors and warnings in a source's files.

use edgewright_model::format::{Diagnostic, Place};
use edgewright_model::tree::TreePath;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::schemas;

/// An error or a warning in a source's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiagnosticView {
    /// Whether it prevents a build.
    #[serde(default)]
    pub severity: Severity,
    /// Path of the file, relative to the source; null for the source as a whole.
    #[schema(value_type = Option<String>)]
    pub file: Option<TreePath>,
    /// Place in the file; null for the file as a whole.
    #[schema(value_type = Option<schemas::Place>)]
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// What to do about it; null if there is no advice.
    pub hint: Option<String>,
}

/// Whether a diagnostic prevents a build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It does.
    #[default]
    Error,
    /// It does not.
    Warning,
}

impl DiagnosticView {
    /// A diagnostic of a severity.
    pub fn new(severity: Severity, diagnostic: Diagnostic) -> Self {
        let Diagnostic { file, place, message, hint } = diagnostic;
        Self { severity, file, place, message, hint }
    }

    /// An error.
    pub fn error(diagnostic: Diagnostic) -> Self {
        Self::new(Severity::Error, diagnostic)
    }
}
