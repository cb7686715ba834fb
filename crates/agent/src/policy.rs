//! When a staged image is applied.

use serde::{Deserialize, Serialize};

/// When a staged image is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Only by `edgewright-agent update`.
    Download,
    /// In the next maintenance window.
    Window,
    /// As soon as it is staged.
    #[default]
    Immediately,
}
