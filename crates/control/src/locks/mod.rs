//! Locks: resolved by jobs, kept as numbered overlays or committed, and checked for updates on a schedule.
//!
//! ```text
//!  image ─ resolve.rs ─▶ lock ─ keep.rs ─▶ an overlay       (built from at once)
//!                                     └──▶ a proposal ─ commit.rs ─▶ a commit (built when its branch is)
//! ```

mod check;
mod commit;
mod keep;
mod overlays;
mod resolve;
pub mod updates;

use edgewright_process::Backoff;

use crate::jobs::Jobs;

pub(crate) use check::UpdateCheck;
pub(crate) use overlays::{Overlays, fixed_locks};
pub(crate) use resolve::Resolving;

/// Resolves locks and keeps them. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Locks {
    pub(crate) jobs: Jobs,
    /// How often a job is tried that fails through the infrastructure.
    pub(crate) attempts: u32,
    /// The pauses between its attempts.
    pub(crate) retry: Backoff,
}
