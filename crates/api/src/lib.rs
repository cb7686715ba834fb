//! Wire contract of operators, and a thin client.
//!
//! Everything that crosses HTTP, and everything that `edgewright … --json` prints, is a type of this crate, so both are
//! the same document. Times are RFC 3339, names are snake_case, durations are `…_ms`, lengths are `…_bytes`. Readers
//! ignore fields that they do not know; fields are added, never renamed or given another meaning. The words (states,
//! lanes, kinds of failure) are `model`'s.
//!
//! | module | holds |
//! |---|---|
//! | [`routes`] | the paths, in one place for server and client |
//! | [`access`] | who may call what: one table |
//! | [`status`], [`source`], [`run`], [`image`], [`release`], [`rebuild`], [`target`], [`verdict`], [`audit`] | documents |
//! | [`error`] | the one error document, and its HTTP statuses |
//! | [`openapi`] | the OpenAPI document, made of [`routes`] and the documents |
//! | [`client`] | the thin client |

#![warn(missing_docs)]

pub mod access;
pub mod audit;
pub mod client;
pub mod error;
pub mod image;
mod inventory;
pub mod openapi;
pub mod rebuild;
pub mod release;
pub mod routes;
pub mod run;
pub mod source;
pub mod status;
pub mod target;
pub mod verdict;

pub use audit::{AuditEntry, AuditFilter, AuditPage};
pub use client::{Client, ClientError, LogStream};
pub use error::ApiError;
pub use image::{
    BuildView, ImageState, ImageSummary, ImageView, LockView, Proof, Provenance, PullCommands,
    RegistryAddress, StepView, VerdictSummary, VerdictView,
};
pub use inventory::{ChannelPost, InventoryView, SiteSummary, SiteView, SlotView};
pub use rebuild::{RebuildPost, RebuildResult, RebuildStatus, RebuildStep, RebuildView};
pub use release::{ChannelView, ReleaseEntry, ReleaseView};
pub use run::{Counts, NodeAction, NodeView, RunAnswer, RunMoved, RunSummary, RunView};
pub use source::{PollAnswer, SourceView};
pub use status::{DataFolder, KeptMachine, ReconcilerView, RunningJob, ServerStatus, SinkView};
pub use target::TargetView;
pub use verdict::{VerdictAnswer, VerdictPost};
