//! Runs a digest on a machine, brings in checks, collects evidence, gives a verdict.
//!
//! The image under test is never modified: a machine fetches it by digest and starts it with its own init, and the static
//! check runner comes in from outside.
//!
//! ```text
//! LaneOrder + ManifestRef ──▶ machine: start ──▶ runner in, results out ──▶ evidence ──▶ stop ──▶ Verdict
//!                                       └─ a fault of the host is a verdict, too: `infrastructure`
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`lane`] | one lane: from order to verdict |
//! | `machine` | what a lane runs on: a trait |
//! | [`container`] | podman's machines: own storage, a runtime that works, images kept |
//! | `static_lane` | the lane that starts no machine: what the layers hold |
//! | `profile` | what verdicts depend on, and what they only record |
//! | `verdict` | from what the runner said to what the lane found |
//! | `evidence` | journal, failed units, console, runner output |
//! | [`mod@reap`] | what killed jobs left behind |

pub mod container;
mod error;
mod evidence;
pub mod lane;
mod machine;
mod profile;
pub mod reap;
mod static_lane;
mod verdict;

pub use container::{
    Engine, EngineSettings, PodmanHost, PodmanSettings, Runner, StorageBounds, kept, runroot,
};
pub use error::LabError;
pub use lane::{Events, LabContext, run_lane};
pub use profile::lane_profile;
pub use reap::{Reaped, reap, reap_job};

/// The label of every container that a job makes; its value is the job's id.
pub const JOB_LABEL: &str = "edgewright.job";

/// The environment variable that carries the work folder into every process of a job, so that [`reap()`] finds those
/// of its own work folder only. Its value is the canonical path.
pub const WORK_ENVIRONMENT: &str = "EDGEWRIGHT_WORK";
