//! Control's database: typed rows over `control.db` (SQLite), and its migrations. All SQL of control is here.
//!
//! Invariants: WAL with `synchronous = FULL`, so a committed row survives power loss; every change of state is a
//! compare-and-set on the state before; a newer schema is refused; rows never travel past `control` and `server`.
//!
//! | module | tables |
//! |---|---|
//! | [`sources`] | `sources`, `branches`, and the birth of a run from a moved branch |
//! | [`runs`], [`nodes`] | `runs`, `run_nodes` |
//! | [`standing`] | `heads`, `standing` |
//! | [`results`] | `builds`, `check_sets`, `verdicts` |
//! | [`locks`] | `locks`, `lock_looks`, `run_images` |
//! | [`proofs`], [`rebuilds`] | `kept_packages`, `proofs`, `rebuilds` |
//! | [`releases`] | `indexes`, `releases`, `release_entries` |
//! | [`channels`] | `channels`, `channel_moves` |
//! | [`inventory`] | `sites`, `slots`, `rollout_policies`; what of `sources` and `channels` the default branch declares |
//! | [`audit`] | `audit` |
//! | [`targets`] | `target_copies`, `target_images` |
//! | [`pull_requests`] | `pull_requests` |
//! | [`retention`] | `collected`; what is needed of the others, and forgetting the rest |
//! | [`outbox`] | `events`, `sinks` |

pub mod audit;
mod backup;
mod cancel;
pub mod channels;
mod error;
pub mod inventory;
pub mod locks;
pub mod nodes;
mod open;
pub mod outbox;
pub mod proofs;
pub mod pull_requests;
pub mod rebuilds;
pub mod releases;
pub mod results;
pub mod retention;
mod row;
pub mod runs;
pub mod sources;
pub mod standing;
pub mod targets;

pub use error::StoreError;
pub use open::Store;
