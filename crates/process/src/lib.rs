//! The one subprocess helper, clock and tracked tasks.
//!
//! | module | holds |
//! |---|---|
//! | [`command`] | what to start, with which environment, input and limits; the ways to run it |
//! | [`context`] | environment and cancellation that all commands of a job share |
//! | [`output`] | what a command leaves |
//! | [`error`] | every way in which a subprocess can fail, printable and classed |
//! | [`program`] | where programs are, and which package brings them |
//! | [`quote`] | a command line that a person can paste into a shell |
//! | [`kill_inside`] | ends what runs in containers whose engine was killed |
//! | [`backoff`] | how long to pause after failures |
//! | [`clock`] | the only place that asks what time it is |
//! | [`tasks`] | spawned tasks: named, cancelled by token and joined at shutdown, or owned by one value |

pub mod backoff;
pub mod clock;
pub mod command;
pub mod context;
pub mod error;
mod execute;
mod group;
mod inside;
mod lines;
pub mod output;
pub mod program;
pub mod quote;
pub mod tasks;

pub use backoff::Backoff;
pub use clock::Clock;
pub use command::Command;
pub use context::ProcessContext;
pub use error::{CommandError, Ended};
pub use inside::kill_inside;
pub use output::{Finished, Output, Stream};
pub use program::which;
pub use tasks::{OwnedTask, Tasks};
pub use tokio_util::sync::CancellationToken;
