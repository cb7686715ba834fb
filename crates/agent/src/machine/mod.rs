//! The state machine of updates: pure, without clock, files or network.
//!
//! ```text
//!  idle ─▶ checking ─▶ downloading ─▶ staged ─▶ waiting ─▶ rebooting ─▶ checking_health ─▶ confirmed
//!    ▲         │             │                                 │              │
//!    └─ problem, nothing new ┘                                 ▼              ▼ unhealthy
//!              └─ failed here, or on hold ─▶ held_back ◀── (fell back)   rolling_back ─▶ held_back
//!
//!  checking ─▶ the offer runs already, without a result ─▶ checking_health ─▶ confirmed, or held_back
//! ```
//!
//! [`step()`] takes a record, an event and the moment, and returns the next record with the actions to
//! perform. The caller stores the record durably *before* it performs any action, and reports the end of each
//! action as an event. Every action can be repeated, so after a power cut at any point [`Event::Started`]
//! continues: it carries what the updater found, and that, not the record, decides what runs on this device.

mod context;
mod health;
mod started;
mod step;

use edgewright_model::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use context::{Context, Rules};
pub use step::{Outcome, Rejected, step};

use crate::health::HealthResult;
use crate::report::ReportBody;
use crate::updater::Deployments;

/// The version of [`Record`] on disk.
pub const RECORD_VERSION: u32 = 1;
/// Maximum number of failed digests that are remembered; the oldest is forgotten first.
pub const MAX_FAILED: usize = 32;
/// Maximum number of attempts to leave a failed image, by reboots, before the device stays where it is.
pub const MAX_ROLL_BACKS: u32 = 5;

/// Everything that is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// The state.
    pub state: State,
    /// When the registry is asked next.
    pub next_check: Timestamp,
    /// When a failed action of the current state is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// The digests that failed on this device, oldest first.
    #[serde(default)]
    pub failed: Vec<Failed>,
    /// The digest that was armed once more, because the boot loader had not tried it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub armed_again: Option<Digest>,
    /// A local hold, until `resume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// What an operator asked for and is not done yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// What does not work at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// The digest that passed its health checks last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<Confirmed>,
    /// Whom `confirmed` was reported to, and as which device; none in a record of an earlier agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reports_as: Option<String>,
    /// What was found at the last start; replaced at every start.
    #[serde(default)]
    pub truth: Deployments,
    /// The boot in which the record was written.
    #[serde(default)]
    pub boot: String,
    /// The registry's last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check: Option<Timestamp>,
    /// The sequence number of the next report.
    #[serde(default = "first_sequence")]
    pub next_report: u64,
}

const fn first_sequence() -> u64 {
    1
}

impl Record {
    /// The record of a device that has no other: it asks the registry at once.
    pub fn new(now: Timestamp) -> Self {
        Self {
            version: RECORD_VERSION,
            state: State::Idle,
            next_check: now,
            retry_at: None,
            failed: Vec::new(),
            armed_again: None,
            hold: None,
            request: None,
            problem: None,
            confirmed: None,
            reports_as: None,
            truth: Deployments::default(),
            boot: String::new(),
            last_check: None,
            next_report: first_sequence(),
        }
    }

    /// The record under the identity that the device reports with. With another one the server has no result
    /// for what runs: it is checked again.
    #[must_use]
    pub fn reporting_as(mut self, identity: String) -> Self {
        if self.reports_as.as_ref().is_some_and(|known| *known != identity) {
            self.confirmed = None;
        }
        self.reports_as = Some(identity);
        self
    }

    /// The digest that runs.
    pub fn booted(&self) -> Option<&Digest> {
        self.truth.booted.as_ref().map(|deployment| &deployment.digest)
    }

    /// How a digest failed here, if it did.
    pub fn failure(&self, update: &Update) -> Option<&Failed> {
        self.failed.iter().find(|failed| update.is(&failed.digest))
    }
}

/// A digest to update to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The platform manifest.
    pub digest: Digest,
    /// The index that it came from, if the tag names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
    /// The reference that was followed.
    pub reference: String,
}

impl Update {
    /// Whether a digest names this image: that of its manifest, or of the index around it.
    pub fn is(&self, digest: &Digest) -> bool {
        self.digest == *digest || self.index.as_ref() == Some(digest)
    }
}

/// The state of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Nothing to do until the next check.
    Idle,
    /// The registry is asked.
    Checking {
        /// What was staged before; it stays usable.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        staged: Option<Update>,
    },
    /// Missing layers are downloaded, then deployed beside the booted image.
    Downloading {
        /// What.
        update: Update,
    },
    /// Deployed; the policy asks for a command to apply it.
    Staged {
        /// What.
        update: Update,
    },
    /// Deployed; waits for the next maintenance window.
    Waiting {
        /// What.
        update: Update,
        /// When it is applied.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// The next boot tries it.
    Rebooting {
        /// What.
        update: Update,
        /// The digest that ran before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Digest>,
        /// The boot that ends.
        boot: String,
        /// Whether the boot loader was set.
        armed: bool,
    },
    /// What runs is checked: after an update on trial, or because it was found running.
    CheckingHealth {
        /// What.
        update: Update,
        /// The digest that ran before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Digest>,
        /// Whether it was found running, and is no trial.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_found: bool,
    },
    /// The image that runs passed its checks.
    Confirmed {
        /// What.
        update: Update,
        /// Whether the boot loader knows it.
        blessed: bool,
    },
    /// The old image becomes the default, and the device reboots into it.
    RollingBack {
        /// What is left.
        update: Update,
        /// Why.
        reason: FailureReason,
        /// The boot that ends.
        boot: String,
        /// The reboots so far.
        attempts: u32,
    },
    /// There is an update that this device does not take.
    HeldBack {
        /// What, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        update: Option<Update>,
        /// Why.
        why: HeldBack,
    },
}

impl State {
    /// The name in `status` and reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Checking { .. } => "checking",
            Self::Downloading { .. } => "downloading",
            Self::Staged { .. } => "staged",
            Self::Waiting { .. } => "waiting",
            Self::Rebooting { .. } => "rebooting",
            Self::CheckingHealth { .. } => "checking_health",
            Self::Confirmed { .. } => "confirmed",
            Self::RollingBack { .. } => "rolling_back",
            Self::HeldBack { .. } => "held_back",
        }
    }

    /// The update that the state is about.
    pub const fn update(&self) -> Option<&Update> {
        match self {
            Self::Idle => None,
            Self::Checking { staged: update } | Self::HeldBack { update, .. } => update.as_ref(),
            Self::Downloading { update }
            | Self::Staged { update }
            | Self::Waiting { update, .. }
            | Self::Rebooting { update, .. }
            | Self::CheckingHealth { update, .. }
            | Self::Confirmed { update, .. }
            | Self::RollingBack { update, .. } => Some(update),
        }
    }

    /// Whether only time or a command leads out of it: no action runs.
    pub const fn is_at_rest(&self) -> bool {
        matches!(
            self,
            Self::Idle
                | Self::Staged { .. }
                | Self::Waiting { .. }
                | Self::Confirmed { blessed: true, .. }
                | Self::HeldBack { .. }
        )
    }
}

/// Why an available update is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBack {
    /// It failed on this device.
    Failed,
    /// The device is on hold.
    Hold,
}

/// A digest that failed on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The platform manifest.
    pub digest: Digest,
    /// Why.
    pub reason: FailureReason,
    /// When, the last time.
    pub at: Timestamp,
    /// How often.
    #[serde(default = "once")]
    pub failures: u32,
}

const fn once() -> u32 {
    1
}

/// Why a digest failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FailureReason {
    /// Its health checks failed.
    Unhealthy {
        /// The first failed check and why.
        message: String,
    },
    /// The boot loader came back to the old image: it did not start, or was not confirmed in time.
    FellBack,
    /// It cannot be deployed on any device.
    Invalid {
        /// What is wrong.
        message: String,
    },
    /// An operator rolled it back.
    RolledBack,
}

impl std::fmt::Display for FailureReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unhealthy { message } => write!(f, "unhealthy: {message}"),
            Self::FellBack => f.write_str("it did not start, or was not confirmed in time"),
            Self::Invalid { message } => write!(f, "invalid image: {message}"),
            Self::RolledBack => f.write_str("an operator rolled it back"),
        }
    }
}

/// A local hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why, as the operator wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// What an operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Apply it as soon as it is staged, whatever the policy.
    pub apply: bool,
    /// Take it although it failed here before.
    pub retry: bool,
}

/// A digest that passed its health checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// What.
    pub update: Update,
    /// When.
    pub at: Timestamp,
}

/// What does not work at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The kind, for machines.
    pub kind: ProblemKind,
    /// What failed and why.
    pub message: String,
    /// The next action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Failures in a row.
    #[serde(default)]
    pub failures: u32,
    /// When the first of them was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// The kind of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// No registry or mirror can be reached, or all connections broke.
    Unreachable,
    /// The registry denies access: the credential is missing, wrong or revoked.
    Denied,
    /// The reference does not exist.
    NotFound,
    /// Every source sent wrong bytes.
    Corrupt,
    /// The disk is full, or would be.
    Space,
    /// The image is unusable on any device.
    Image,
    /// There is no other image to roll back to.
    NoFallback,
    /// The updater failed.
    Updater,
    /// The device's own configuration or files are unusable.
    Local,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The agent started: after a boot, a crash or an upgrade of itself.
    Started {
        /// What the updater found.
        truth: Box<Deployments>,
        /// The ID of this boot.
        boot: String,
    },
    /// Time passed.
    Tick,
    /// An operator's command.
    Command(Command),
    /// The registry's answer to [`Action::Check`].
    Found(Update),
    /// [`Action::Download`] is done: everything is deployed.
    Downloaded {
        /// Bytes of layers that were received. What an interrupted download has kept does not count.
        bytes: u64,
    },
    /// [`Action::Arm`] is done.
    Armed,
    /// [`Action::CheckHealth`] or [`Action::CheckFound`] is decided.
    Health(HealthResult),
    /// [`Action::Bless`] is done.
    Blessed,
    /// [`Action::RollBack`] is done.
    RolledBack,
    /// The running action failed.
    Failed(Problem),
}

/// An operator's command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Ask the registry now.
    Check,
    /// Take and apply what the registry has, now.
    Update {
        /// Also if it failed here before.
        retry: bool,
    },
    /// Return to the other image.
    RollBack,
    /// Take no updates until [`Command::Resume`].
    Hold {
        /// Why.
        reason: Option<String>,
    },
    /// End a hold.
    Resume,
}

/// What to do next. At most one action is running at a time; a new one replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the registry which digest to run.
    Check,
    /// Download what is missing, and stage.
    Download(Update),
    /// Set the boot loader: the next boot tries it.
    Arm(Digest),
    /// Reboot.
    Reboot,
    /// Run the checks of the booted image, which were stored with its download.
    CheckHealth(Update),
    /// Get the checks of an image that was found running, and run them.
    CheckFound(Update),
    /// Make the booted image the default.
    Bless,
    /// Make the other image the default.
    RollBack,
    /// Remove what is no longer needed.
    Collect,
    /// Stop the running action.
    Stop,
}

/// Reports of a step: stored before its actions are performed.
pub type Reports = Vec<ReportBody>;

#[cfg(test)]
mod tests;
