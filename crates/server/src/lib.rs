//! Composition: settings, the data folder, views, HTTP, telemetry, shutdown.
//!
//! ```text
//!  cli ──Settings──▶ Composition ─┬─ folder    the lock: one server per data folder
//!                                 ├─ store, registry, control
//!                                 ├─ views     rows → api documents
//!                                 ├─ tls       a second listener, if a certificate is configured
//!                                 ├─ http      /v2 (registry), /api/v1, /hooks, /metrics, /healthz, /readyz
//!                                 ├─ live      what SIGHUP changes: sources, sinks, targets, secrets
//!                                 ├─ tokens    the operator's, the jobs', control's own
//!                                 ├─ oidc      which user a token of a login provider identifies
//!                                 └─ metrics
//!
//!  settings ─┐
//!  metrics  ─┴─▶ reference ─▶ docs/reference   (by `cargo xtask generate`)
//! ```

#![warn(missing_docs)]

pub mod backup;
pub mod composition;
pub mod folder;
pub mod http;
pub mod live;
pub mod metrics;
pub mod oidc;
pub mod reference;
mod reserve;
pub mod settings;
pub mod telemetry;
pub mod tls;
pub mod tokens;
pub mod views;
mod watched;

pub use edgewright_control::SourceSettings;

pub use composition::{Composition, Reloaded, StartError};
pub use folder::{DataFolder, FolderError, FolderLock};
pub use settings::keep::DEFAULT_STORAGE_MIB;
pub use settings::{Options, Settings, SettingsError};
pub use tokens::ProcessTokens;
pub use views::{LogReader, ViewError, Views, rebuilt};
pub use watched::WatchedFiles;
