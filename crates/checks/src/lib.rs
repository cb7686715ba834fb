//! Check runner: the same code in lanes and on devices; also the static binary `edgewright-checks`.
//!
//! The binary is copied into the machine under test, so it assumes nothing about it: no NSS, no
//! shell, no D-Bus, possibly no service manager yet. It is synchronous and blocks; it never panics on input.
//!
//! | module | holds |
//! |---|---|
//! | `protocol` | the formats of standard input and standard output |
//! | `runner` | runs all checks concurrently, each until it holds or its time limit is over |
//! | `probe` | one attempt at one assertion |
//! | `exec` | starts programs, with limits |
//! | [`device`] | the runner in a device that it leads from one image to another |
//! | [`machine`] | the runner in a virtual machine without a channel, on KubeVirt |
//! | [`pod`] | the runner as the first process of a container, on Kubernetes |

pub mod device;
mod exec;
pub mod machine;
pub mod pod;
mod probe;
mod protocol;
mod runner;

pub use probe::greenboot::run_hooks;
pub use protocol::{
    InvalidOrder, MachineLine, ORDER_VERSION, RUNNER_SEMANTICS, RunLine, RunOrder, RunSummary,
};
pub use runner::run;

/// The command that shows the failed units of a machine, as evidence.
pub const FAILED_UNITS: &[&str] =
    &["systemctl", "status", "--no-pager", "--full", "--lines=100", "--state=failed", "*"];
