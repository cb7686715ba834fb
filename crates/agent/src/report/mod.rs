//! Reports: what happened on this device, for the server, in order.
//!
//! | module | holds |
//! |---|---|
//! | `outbox` | the queue on disk |
//! | `send` | its way to the server |

mod outbox;
mod send;

use edgewright_api::device::DeviceReport;
use edgewright_model::Digest;
use jiff::Timestamp;

pub use outbox::{MAX_QUEUED, Outbox};
pub use send::{Reporter, SendError};

use crate::health::HealthResult;
use crate::machine::{ProblemKind, Record};
use crate::updater::Deployments;

/// The name and version in reports.
pub const SENDER: &str = concat!("edgewright-agent/", env!("CARGO_PKG_VERSION"));

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum ReportBody {
    /// The device booted.
    Booted {
        /// What the updater found.
        truth: Deployments,
    },
    /// The registry has another digest, which is downloaded now.
    Offered {
        /// Which.
        digest: Digest,
    },
    /// It is deployed.
    Staged {
        /// Which.
        digest: Digest,
        /// Bytes of layers that were received for it.
        bytes: u64,
    },
    /// The device reboots into it.
    Rebooting {
        /// Which.
        digest: Digest,
    },
    /// Its health checks are decided.
    Health {
        /// Which.
        digest: Digest,
        /// The result.
        result: HealthResult,
    },
    /// It is the default from now on.
    Confirmed {
        /// Which.
        digest: Digest,
    },
    /// The device runs the old image again.
    RolledBack {
        /// What was left.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// Something does not work.
    Problem {
        /// The kind.
        kind: ProblemKind,
        /// What failed and why.
        message: String,
    },
    /// Nothing happened for a while.
    Alive,
}

impl ReportBody {
    /// The kind on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Booted { .. } => "booted",
            Self::Offered { .. } => "offered",
            Self::Staged { .. } => "staged",
            Self::Rebooting { .. } => "rebooting",
            Self::Health { .. } => "health",
            Self::Confirmed { .. } => "confirmed",
            Self::RolledBack { .. } => "rolled_back",
            Self::Problem { .. } => "problem",
            Self::Alive => "alive",
        }
    }

    /// The report on the wire.
    pub fn into_report(self, record: &Record, place: Place<'_>) -> DeviceReport {
        let kind = self.kind().to_owned();
        let downloaded_bytes = match &self {
            Self::Staged { bytes, .. } => Some(*bytes),
            _ => None,
        };
        let (digest, message, checks) = match self {
            Self::Booted { .. } | Self::Alive => (None, None, Vec::new()),
            Self::Offered { digest }
            | Self::Staged { digest, .. }
            | Self::Rebooting { digest }
            | Self::Confirmed { digest } => (Some(digest), None, Vec::new()),
            Self::Health { digest, result } => {
                let result = result.bounded();
                let warnings = (!result.warnings.is_empty()).then(|| result.warnings.join("\n"));
                (Some(digest), result.failure().or(warnings), result.checks)
            }
            Self::RolledBack { digest, reason } => (Some(digest), Some(reason), Vec::new()),
            Self::Problem { message, .. } => (None, Some(message), Vec::new()),
        };
        let booted = record.truth.booted.as_ref();
        DeviceReport {
            stream: place.stream.to_owned(),
            sequence: place.sequence,
            at: place.at,
            boot: record.boot.clone(),
            sender: SENDER.to_owned(),
            kind,
            state: Some(record.state.name().to_owned()),
            digest,
            message,
            booted: booted.map(|booted| booted.digest.clone()),
            fallback: record.truth.fallback.as_ref().map(|fallback| fallback.digest.clone()),
            tries_left: booted.and_then(|booted| booted.tries_left),
            verity: booted.map(|booted| booted.verity),
            free_bytes: place.free_bytes,
            downloaded_bytes,
            checks,
        }
    }
}

/// The place of a report in its stream.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The number in it.
    pub sequence: u64,
    /// The time.
    pub at: Timestamp,
    /// Free space for updates, in bytes.
    pub free_bytes: Option<u64>,
}
