//! OCI distribution server with its own metadata; usable without the rest of Edgewright.
//!
//! ```text
//!            ┌ request ─▶ http ──┐                 ┌─▶ metadata   registry.db: visible objects
//!  client ──▶│ (pure)     range  ├─▶ registry ─────┤
//!            └ manifest (pure) ──┘   uploads       └─▶ blobs      bytes by digest
//!                                    download
//! ```
//!
//! Invariants:
//! - An object is visible if and only if its row exists. A row is committed only when its bytes survive a
//!   power cut.
//! - No response completes with wrong bytes; a damaged blob is hidden until a new push repairs it.
//! - The [`Authorizer`] decides every request once, before anything else.
//! - The [`TagResolver`] resolves reserved names; no client can write them.
//! - Pinned content is never deleted. Content without a pin, tag or parent manifest is collected when it is
//!   a day old.
//! - Blobs of virtual repositories may be in an external registry, too ([`External`]); what is read there is
//!   verified like the own files.
//! - Everything is bounded: queues, caches, uploads, responses, waiting times.

mod access;
mod collect;
mod credentials;
mod download;
mod downloads;
mod drain;
mod error;
mod external;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod http;
mod manifest;
mod metadata;
mod pace;
mod ports;
mod range;
mod registry;
mod request;
mod resolve;
mod session;
mod settings;
mod types;
mod uploads;

pub use edgewright_blobs::DiskUsage;

pub use access::{Open, RESERVED};
pub use credentials::{AccessToken, BaseUrl, Credentials, host, presented_token};
pub use drain::{Drained, IsDrained, Spawn};
pub use error::RegistryError;
pub use external::ExternalTraffic;
pub use http::{API_VERSION, error_response};
pub use metadata::copy_metadata;
pub use pace::{CLIENT_RATE_LIMIT, CLIENT_STALL_TIMEOUT, Pace, paced};
pub use ports::{
    AccessRequest, Action, Authorizer, Contents, CopyBytes, CopyError, Decision, External, ExternalCopy,
    Lookup, NoReservedTags, Redirection, Resolution, TagResolver, Target,
};
pub use registry::Registry;
pub use settings::{
    COLLECT_AFTER, MANIFEST_LIMIT, MAX_DOWNLOADS, MAX_DOWNLOADS_PER_PEER, MAX_INDEX_DEPTH,
    MAX_KNOWN_DOWNLOADS, MAX_MANIFEST_ENTRIES, MAX_PROXIED_DOWNLOADS, MAX_PROXIED_DOWNLOADS_PER_PEER,
    MAX_UPLOADS, MAX_UPLOADS_PER_IDENTITY, RegistrySettings, UPLOAD_EXPIRY, UPLOAD_GRACE_TIMEOUT,
};
pub use types::{Collected, Maintained, Manifest, Pin, Referrer, RepositoryUsage};
