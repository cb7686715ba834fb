//! Reports of devices: what an agent or a beacon saw, in order.

use edgewright_model::digest::Digest;
use edgewright_model::verdict::CheckResult;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::schemas;

/// Maximum number of reports in one request.
pub const MAX_REPORTS: usize = 100;

/// One report. `stream` and `sequence` identify it: sending it again changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceReport {
    /// The stream: a new one begins when a device loses its state, and when it is installed again.
    pub stream: String,
    /// Sequence number in the stream, from 1. A gap means that the device dropped older reports.
    pub sequence: u64,
    /// Time of the event, by the device's clock.
    pub at: Timestamp,
    /// ID of the boot.
    pub boot: String,
    /// Name and version of the sender, such as `edgewright-agent/0.1.0`.
    pub sender: String,
    /// What happened: `booted`, `offered`, `staged`, `rebooting`, `health`, `confirmed`, `rolled_back`,
    /// `problem`, `alive`. Readers ignore kinds that they do not know.
    pub kind: String,
    /// State of the device after the event, such as `idle` or `held_back`.
    #[serde(default)]
    pub state: Option<String>,
    /// Digest that the event is about.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// Why, as text.
    #[serde(default)]
    pub message: Option<String>,
    /// Digest that runs.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub booted: Option<Digest>,
    /// Digest that the boot loader falls back to.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub fallback: Option<Digest>,
    /// Number of boots that are left to try the digest that runs; null once it is confirmed.
    #[serde(default)]
    pub tries_left: Option<u32>,
    /// Whether fs-verity protects the digest that runs.
    #[serde(default)]
    pub verity: Option<bool>,
    /// Free space for updates, in bytes.
    #[serde(default)]
    pub free_bytes: Option<u64>,
    /// Bytes of layers that the device received for the digest, of a report of kind `staged`. What an
    /// interrupted download had kept does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downloaded_bytes: Option<u64>,
    /// Results of the checks, of a report of kind `health`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<schemas::CheckResult>)]
    pub checks: Vec<CheckResult>,
}

/// Reports of one device, oldest first: at most [`MAX_REPORTS`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceReports {
    /// The reports.
    pub reports: Vec<DeviceReport>,
}

/// The response to reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceReportsResponse {
    /// Number of reports that the server did not have yet.
    pub added: u64,
}

/// A stored report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceReportView {
    /// Time at which the server received it.
    pub received: Timestamp,
    /// The report.
    pub report: DeviceReport,
}
