//! Subprocesses, the clock and tracked tasks. Nothing else in the workspace starts processes, reads the time
//! or spawns tasks.
//!
//! | module | holds |
//! |---|---|
//! | [`command`] | a subprocess before its start, with environment, input and limits; the ways to run it |
//! | [`context`] | environment and cancellation that all commands of a job share |
//! | [`output`] | the results of a command |
//! | [`error`] | the errors of subprocesses, with a class and a hint |
//! | [`program`] | the search path, and which package has a program |
//! | [`quote`] | command lines that can be pasted into a shell |
//! | [`kill_inside`] | kills processes in containers whose engine was killed |
//! | [`backoff`] | how long to pause after failures |
//! | [`clock`] | the only place that reads the current time |
//! | [`subordinate`] | the ranges of IDs that a user has besides its own |
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
pub mod subordinate;
pub mod tasks;

pub use backoff::Backoff;
pub use clock::Clock;
pub use command::Command;
pub use context::ProcessContext;
pub use error::{CommandError, Ended};
pub use inside::kill_inside;
pub use output::{Finished, Output, Stream};
pub use program::{replace, which};
pub use tasks::{OwnedTask, Tasks};
pub use tokio_util::sync::CancellationToken;
