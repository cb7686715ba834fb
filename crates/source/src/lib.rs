//! Git: poll a remote, fetch it into a bare mirror, read a commit's tree without a checkout.
//!
//! ```text
//! Remote ──poll──▶ RemoteRefs ──changed──▶ [RefChange]         (ls-remote; pure comparison)
//!    └────fetch──▶ Mirror ──┐
//! folder ─Worktree::read────┴▶ Repository ──read_tree──▶ model::tree::Tree
//!                                         └─pack───────▶ canonical tar of file contents
//!              Mirror ──commit──▶ CommitId ──push──▶ Remote    (locks; never forced)
//! ```
//!
//! Git is called by its command line (2.31 or newer; from 2.36 on with fewer processes), with an isolated
//! home folder: settings of the user and the system have no effect, and nothing in the user's home is
//! written.

mod bounds;
pub mod cache;
pub mod changes;
pub mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod git;
mod meaning;
pub mod mirror;
pub mod objects;
pub mod pack;
mod parse;
pub mod push;
pub mod remote;
pub mod repository;
mod ssh;
mod submodules;
pub mod worktree;

pub use bounds::Excess;
pub use changes::{Followed, RefChange, changed};
pub use error::SourceError;
pub use git::Git;
pub use mirror::Mirror;
pub use objects::{Commit, Reader};
pub use pack::{PackEntry, PackError, PackKind};
pub use parse::RemoteRefs;
pub use push::{NewCommit, Pushed};
pub use remote::Remote;
pub use repository::{CommitInfo, Repository};
pub use ssh::{InvalidSshPath, SshIdentity};
pub use worktree::Worktree;
