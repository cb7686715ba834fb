//! Machines of the container lane: podman, with a storage of its own.
//!
//! | module | holds |
//! |---|---|
//! | [`host`] | podman on this host, opened when the first machine needs it |
//! | [`engine`] | the settings with which podman works here |
//! | `candidates` | settings to try if podman's defaults do not work |
//! | `machine` | a container as the machine of a lane |
//! | `life` | the lifecycle of a container |
//! | `evidence` | journal, failed units and console of a container |
//! | [`runner`] | the check runner's binary in the work folder |
//! | [`kept`] | machines that were started with `--keep` |
//! | `storage` | limits of the container storage |

mod candidates;
pub mod engine;
mod evidence;
pub mod host;
pub mod kept;
pub(crate) mod life;
pub(crate) mod machine;
pub mod runner;
mod storage;

pub use engine::{Engine, EngineSettings, runroot};
pub use host::{PodmanHost, PodmanSettings};
pub use runner::Runner;
pub use storage::StorageBounds;
