//! What a machine offers for builds and tests.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What this machine offers for builds and tests, and what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoctorReport {
    /// Whether jobs that start programs can run here.
    pub ready: bool,
    /// How long a sandbox took to start, in milliseconds: until the first line of its program. Null if none
    /// could be started.
    pub sandbox_ms: Option<u64>,
    /// What was looked at.
    pub checks: Vec<DoctorCheck>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoctorCheck {
    /// What it is about, such as `cgroups`; stays the same between releases.
    pub id: String,
    /// The judgement.
    pub state: DoctorState,
    /// What was found.
    pub found: String,
    /// What to do; null if nothing is missing.
    pub hint: Option<String>,
}

/// How good what was found is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DoctorState {
    /// All is there.
    Ok,
    /// Jobs run, with a drawback that the hint names.
    Warning,
    /// Jobs that need it fail.
    Missing,
}
