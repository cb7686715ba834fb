//! Machines of the lane `vm`: virtual machines with the image's own kernel.
//!
//! | module | holds |
//! |---|---|
//! | `host` | what virtual machines of a job work with |
//! | `machine` | a virtual machine as the machine of a lane |
//! | `boot` | whether the boot came to its end |
//! | `evidence` | journal, failed units and console of a virtual machine |
//! | `lines` | lines of the channel's bytes |
//! | `publish` | machines for KubeVirt |
//! | [`kept`] | virtual machines that were started with `--keep` |

mod boot;
mod evidence;
pub mod host;
pub mod kept;
mod lines;
pub(crate) mod machine;
mod publish;

pub use host::VmHost;
pub use publish::publish_machine;
