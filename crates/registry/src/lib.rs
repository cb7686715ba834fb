//! OCI distribution server with its own metadata; stands alone.

mod access;
mod error;
mod ports;
mod registry;
mod settings;

pub use edgewright_blobs::DiskUsage;

pub use access::{AccessToken, Open, TokenForWrites};
pub use error::RegistryError;
pub use ports::{Action, Authorizer, Decision, NoReservedTags, Resolution, TagResolver};
pub use registry::{Maintained, Manifest, Pin, Referrer, Registry, RepositoryUsage};
pub use settings::{MANIFEST_LIMIT, RegistrySettings, UPLOAD_EXPIRY};
