//! The document of `edgewright-agent status --json`.

use edgewright_model::names::DeviceId;
use edgewright_model::reference::ImageReference;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::jobs::Doing;
use crate::machine::{Confirmed, Failed, Hold, Problem, Record, Rules, State};
use crate::policy::Policy;
use crate::updater::Deployments;

/// The version of the document.
const STATUS_VERSION: u32 = 1;

/// The status of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusDocument {
    /// The version of this form.
    pub version: u32,
    /// The name in reports.
    pub device: String,
    /// The reference that is followed.
    pub image: String,
    /// The updater.
    pub updater: String,
    /// When a staged image is applied.
    pub policy: Policy,
    /// The state, with its update.
    pub state: State,
    /// What runs, what is the fallback, what is staged.
    pub deployments: Deployments,
    /// What does not work at the moment.
    pub problem: Option<Problem>,
    /// A local hold.
    pub hold: Option<Hold>,
    /// The digest that passed its health checks last.
    pub confirmed: Option<Confirmed>,
    /// Digests that failed here.
    pub failed: Vec<Failed>,
    /// The registry's last answer.
    pub last_check: Option<Timestamp>,
    /// When the registry is asked next.
    pub next_check: Timestamp,
    /// Reports that wait for the server.
    pub queued_reports: Option<usize>,
    /// The running action.
    pub doing: Option<Doing>,
    /// Whether this comes from a running agent.
    pub is_running: bool,
}

/// What is known besides the record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) updater: &'a str,
    pub(super) device: &'a DeviceId,
    pub(super) rules: &'a Rules,
    pub(super) image: &'a ImageReference,
}

impl StatusDocument {
    pub(super) fn new(
        record: &Record,
        facts: &Facts<'_>,
        queued: Option<usize>,
        doing: Option<Doing>,
    ) -> Self {
        Self {
            version: STATUS_VERSION,
            device: facts.device.to_string(),
            image: facts.image.to_string(),
            updater: facts.updater.to_owned(),
            policy: facts.rules.policy,
            state: record.state.clone(),
            deployments: record.truth.clone(),
            problem: record.problem.clone(),
            hold: record.hold.clone(),
            confirmed: record.confirmed.clone(),
            failed: record.failed.clone(),
            last_check: record.last_check,
            next_check: record.next_check,
            queued_reports: queued,
            doing,
            is_running: true,
        }
    }

    /// The status of a device whose agent does not run: what it stored.
    pub fn stored(record: &Record, config: &crate::config::Config, queued: Option<usize>) -> Self {
        let facts =
            Facts { updater: "unknown", device: &config.device, rules: &config.rules, image: &config.image };
        Self { is_running: false, ..Self::new(record, &facts, queued, None) }
    }
}
