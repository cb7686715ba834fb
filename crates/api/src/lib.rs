//! The API of an Edgewright server, the JSON documents of the command line, and a client.
//!
//! Everything that crosses HTTP, and everything that `edgewright … --json` prints, is a type of this crate.
//! Times are RFC 3339 in UTC, names are snake_case, durations are `…_ms`, sizes are `…_bytes`. Readers ignore
//! unknown fields. The names of states, lanes and kinds of failures are those of `model`.
//!
//! | module | content |
//! |---|---|
//! | [`routes`] | the paths, for server and client |
//! | [`access`] | the table of which principal may call which route |
//! | [`status`], [`source`], [`target`], [`audit`] | types of the API: the server |
//! | [`device`], [`fleet`] | types of the API: reports of devices; devices and their enrolment |
//! | [`run`], [`image`], [`release`], [`rebuild`], [`verdict`] | types of the API: builds and their results |
//! | [`export`] | types of the API: jobs as objects of Kubernetes |
//! | [`identity`] | a device's identity as files |
//! | [`documents`] | the documents of the command line, made of the types of the API |
//! | [`diagnostic`], [`schemas`] | parts of documents |
//! | [`error`] | the error body, and the HTTP statuses of errors |
//! | [`openapi`] | the OpenAPI document, made from [`routes`] and the types |
//! | [`client`] | the client |

#![warn(missing_docs)]

pub mod access;
pub mod audit;
pub mod client;
pub mod device;
pub mod diagnostic;
pub mod documents;
pub mod error;
pub mod evidence;
pub mod export;
pub mod fleet;
pub mod identity;
pub mod image;
mod inventory;
pub mod openapi;
pub mod rebuild;
pub mod release;
pub mod rollout;
pub mod routes;
pub mod run;
pub mod schemas;
pub mod source;
pub mod status;
pub mod target;
pub mod user;
mod verdict;

pub use audit::{AuditEntry, AuditFilter, AuditPage};
pub use client::{Client, ClientError, LogStream};
pub use device::{DeviceReport, DeviceReportView, DeviceReports, DeviceReportsResponse};
pub use diagnostic::{DiagnosticView, Severity};
pub use error::ApiError;
pub use evidence::{EvidenceQuery, EvidenceView};
pub use export::{ExportPost, ExportView};
pub use fleet::{
    DeviceEvidence, DeviceIdentity, DevicePost, DeviceState, DeviceSummary, DeviceView, EnrolPost,
    EnrolmentPost, EnrolmentView,
};
pub use image::{
    BuildView, ImageState, ImageSummary, ImageView, LockView, Proof, Provenance, PullCommands,
    RegistryAddress, StepView, VerdictSummary, VerdictView,
};
pub use inventory::{ChannelPost, InventoryView, SiteSummary, SiteView, SlotView};
pub use rebuild::{RebuildPost, RebuildResult, RebuildStatus, RebuildStep, RebuildView};
pub use release::{ChannelView, ReleaseEntry, ReleaseView};
pub use rollout::{
    QuarantinePost, QuarantineView, RolloutDeviceView, RolloutPost, RolloutStage, RolloutSummary, RolloutView,
};
pub use run::{
    Counts, NodeAction, NodeView, RunJob, RunJobs, RunResponse, RunStateChanged, RunSummary, RunView,
};
pub use source::{PollResponse, SourceView};
pub use status::{DataFolder, KeptMachine, ReconcilerView, RunningJob, ServerStatus, SinkView};
pub use target::TargetView;
pub use user::{Identity, LoginToken, LoginView, TokenPost, TokenResponse, TokenView, UserPost, UserView};
pub use verdict::{VerdictPost, VerdictResponse};
