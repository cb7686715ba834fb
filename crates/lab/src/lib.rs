//! Tests images: a lane runs a digest on a machine, runs checks in it, collects evidence and gives a verdict.
//!
//! The image under test is never modified: a machine pulls it by digest and starts it with its own init, and
//! the static check runner is mounted from outside.
//!
//! ```text
//! LaneOrder + ManifestRef ──▶ machine: start ──▶ runner in, results out ──▶ evidence ──▶ stop ──▶ Verdict
//!                                       └─ a fault of the host gives a verdict, too: `infrastructure`
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`lane`] | one lane: from order to verdict |
//! | [`machine`] | the trait of machines that lanes run on |
//! | [`container`] | podman's machines: storage, settings, limits |
//! | [`vm`] | virtual machines: QEMU, acceleration, limits |
//! | `device` | lanes that update a device |
//! | `static_lane` | the lane that inspects layers without starting a machine |
//! | `profile` | the facts about lanes that verdicts depend on, or only record |
//! | `verdict` | from the check runner's results to the result of a lane |
//! | `evidence` | journal, failed units, console, runner output |
//! | [`remote`] | machines that are made here and started elsewhere |
//! | [`mod@reap`] | cleanup after killed jobs |

pub mod container;
mod device;
mod error;
mod evidence;
pub mod lane;
pub mod machine;
mod profile;
pub mod reap;
pub mod remote;
mod static_lane;
mod verdict;
pub mod vm;

pub use container::{
    Engine, EngineSettings, PodmanHost, PodmanSettings, Runner, StorageBounds, kept, runroot,
};
pub use error::LabError;
pub use evidence::{Piece, bound, keep_end};
pub use lane::{Events, LabContext, run_lane, run_lane_on, runner_order, skip_lane};
pub use profile::lane_profile;
pub use vm::{VmHost, publish_machine};

pub use reap::{Reaped, reap, reap_job};

/// The label of every container that a job makes; its value is the job's id.
pub const JOB_LABEL: &str = "edgewright.job";

/// The environment variable with the work folder in every process of a job, so that [`reap()`] finds only
/// those of its own work folder. Its value is the canonical path.
pub const WORK_ENVIRONMENT: &str = "EDGEWRIGHT_WORK";
