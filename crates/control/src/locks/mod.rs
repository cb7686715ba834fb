//! Locks: resolved by jobs, kept as overlays or committed, and checked for updates on a schedule.

pub(crate) mod commit;
mod resolve;
pub mod updates;
