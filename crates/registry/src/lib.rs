//! OCI distribution server with its own metadata; stands alone.
//!
//! ```text
//!            ┌ request ─▶ http ──┐                 ┌─▶ metadata   registry.db: what is visible
//!  client ──▶│ (pure)     range  ├─▶ registry ─────┤
//!            └ manifest (pure) ──┘   uploads       └─▶ blobs      bytes by digest
//!                                    download
//! ```
//!
//! Invariants:
//! - An object is visible if and only if its row exists, and a row is committed only when its bytes survive a power cut.
//! - No answer completes with wrong bytes; damage hides a blob until a re-push repairs it.
//! - Reserved tags are answered by the [`TagResolver`]; no client writes them.
//! - What a pin holds is never deleted. What neither pin, tag nor another manifest holds is collected once it is a day old.
//! - Everything is bounded: queues, caches, uploads, answers, waiting.

mod access;
mod collect;
mod download;
mod error;
mod http;
mod manifest;
mod metadata;
mod ports;
mod range;
mod registry;
mod request;
mod session;
mod settings;
mod types;
mod uploads;

pub use edgewright_blobs::DiskUsage;

pub use access::{AccessToken, Open, TokenForWrites};
pub use error::RegistryError;
pub use metadata::copy_metadata;
pub use ports::{Action, Authorizer, Decision, NoReservedTags, Resolution, TagResolver};
pub use registry::Registry;
pub use settings::{COLLECT_AFTER, MANIFEST_LIMIT, RegistrySettings, UPLOAD_EXPIRY};
pub use types::{Collected, Maintained, Manifest, Pin, Referrer, RepositoryUsage};
