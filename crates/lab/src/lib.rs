//! Runs a digest as a container, brings in checks, collects evidence, gives a verdict.
//!
//! The image under test is never modified: it is pulled by digest into a container storage of our own, started with
//! its own init, and the static check runner comes in as a read-only mount.
//!
//! ```text
//! LaneOrder + ManifestRef ──▶ pull ──▶ start ──▶ runner in, results out ──▶ evidence ──▶ remove ──▶ Verdict
//!                              └────────┴─ a fault of the host is a verdict, too: `infrastructure`
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `candidates` | settings to try where podman's defaults do not work |
//! | [`engine`] | podman on this host: own storage, a runtime that works, images kept |
//! | [`runner`] | the check runner's binary in the work folder |
//! | [`lane`] | one lane: from order to verdict |
//! | `profile` | what verdicts depend on, and what they only record |
//! | `statics` | the lane that runs nothing: what the layers say |
//! | `container` | the life of one container |
//! | `verdict` | from what the runner said to what the lane found |
//! | `evidence` | journal, failed units, console, runner output |
//! | [`kept`] | machines that stay when their checks are done, for somebody to look into |
//! | [`mod@reap`] | what killed jobs left behind |

mod candidates;
mod container;
pub mod engine;
mod error;
mod evidence;
pub mod kept;
pub mod lane;
mod profile;
pub mod reap;
pub mod runner;
mod statics;
mod storage;
mod verdict;

pub use engine::{Engine, EngineSettings, runroot};
pub use error::LabError;
pub use lane::{Events, LabContext, run_lane};
pub use profile::{lane_profile, recorded_on, verdict_inputs};
pub use reap::{Reaped, reap, reap_job};
pub use runner::Runner;
pub use storage::StorageBounds;

/// The label of every container that a job makes; its value is the job's id.
pub const JOB_LABEL: &str = "edgewright.job";

/// The environment variable that carries the work folder into every process of a job, so that [`reap()`] finds those
/// of its own work folder only. Its value is the canonical path.
pub const WORK_ENVIRONMENT: &str = "EDGEWRIGHT_WORK";
