//! Machines of the container lane: podman, with a storage of our own.
//!
//! | module | holds |
//! |---|---|
//! | [`host`] | podman on this host, opened when the first machine needs it |
//! | [`engine`] | the settings by which podman works here |
//! | `candidates` | settings to try where podman's defaults do not work |
//! | `machine` | the machine that a lane runs on |
//! | `life` | the podman commands in a container's life |
//! | `evidence` | what a container shows of itself |
//! | [`runner`] | the check runner's binary in the work folder |
//! | [`kept`] | machines that stay when their checks are done, for somebody to look into |
//! | `storage` | images kept |

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
