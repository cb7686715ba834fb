//! Settings of the registry. The server resolves them from its configuration.

use std::path::PathBuf;
use std::time::Duration;

/// How long an upload without requests is kept.
pub const UPLOAD_EXPIRY: Duration = Duration::from_hours(24);

/// The age at which unreferenced content is collected.
pub const COLLECT_AFTER: Duration = Duration::from_hours(24);

/// The largest accepted manifest, in bytes (distribution-spec requires at least 4 MiB).
pub const MANIFEST_LIMIT: usize = 4 * 1024 * 1024;

/// The largest number of layers or manifests that an accepted manifest refers to.
pub const MAX_MANIFEST_ENTRIES: usize = 4096;

/// How deep indexes may be nested in an index.
pub const MAX_INDEX_DEPTH: u32 = 8;

/// The limit of open uploads.
pub const MAX_UPLOADS: usize = 1024;

/// The limit of open uploads of one identity.
pub const MAX_UPLOADS_PER_IDENTITY: usize = 256;

/// How long an upload may be idle before it makes room for a new one, if there are too many.
pub const UPLOAD_GRACE_TIMEOUT: Duration = Duration::from_mins(1);

/// The limit of concurrent blob responses to clients without credentials.
pub const MAX_DOWNLOADS: usize = 768;

/// The limit of concurrent blob responses to clients with credentials.
pub const MAX_KNOWN_DOWNLOADS: usize = 256;

/// The limit of concurrent blob responses to one peer: an identity, or an address other than loopback.
pub const MAX_DOWNLOADS_PER_PEER: usize = 192;

/// The limit of concurrent blob responses that are read from external registries.
pub const MAX_PROXIED_DOWNLOADS: usize = 64;

/// The limit of such responses to one peer: container tools read six layers at a time.
pub const MAX_PROXIED_DOWNLOADS_PER_PEER: usize = 8;

/// The registry's folder and limits. Create them by [`RegistrySettings::new`] and change fields as needed.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Folder of the registry: `registry.db`, `blobs/`, `uploads/`. Created if missing. One process at a
    /// time.
    pub folder: PathBuf,
    /// `maintenance` deletes uploads that were idle for longer.
    pub upload_expiry: Duration,
    /// Unreferenced content is collected at this age. It must be longer than any push takes from its first
    /// blob to its manifest.
    pub collect_after: Duration,
    /// The limit of open uploads; further ones get 429.
    pub max_uploads: usize,
    /// The limit of open uploads of one identity; further ones get 429.
    pub max_uploads_per_identity: usize,
    /// At a limit, uploads that were idle for longer make room for new ones, those that are idle for longest
    /// first.
    pub upload_grace: Duration,
    /// The limit of concurrent blob responses to clients without credentials, each with at most two buffers
    /// of 256 KiB; further ones wait, then get 429.
    pub max_downloads: usize,
    /// The same for clients with credentials.
    pub max_known_downloads: usize,
    /// The limit of concurrent blob responses to one peer.
    pub max_downloads_per_peer: usize,
    /// The limit of concurrent blob responses whose bytes come from external registries; further ones wait,
    /// then get 429.
    pub max_proxied_downloads: usize,
    /// The limit of such responses to one peer.
    pub max_proxied_downloads_per_peer: usize,
    /// The timeout of clients that neither send nor receive a byte, and the time after which a rate below
    /// [`crate::CLIENT_RATE_LIMIT`] is cut.
    pub idle_limit: Duration,
    /// The size limit of cached manifests, in bytes.
    pub manifest_cache_bytes: usize,
}

impl RegistrySettings {
    /// The default limits for a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            upload_expiry: UPLOAD_EXPIRY,
            collect_after: COLLECT_AFTER,
            max_uploads: MAX_UPLOADS,
            max_uploads_per_identity: MAX_UPLOADS_PER_IDENTITY,
            upload_grace: UPLOAD_GRACE_TIMEOUT,
            max_downloads: MAX_DOWNLOADS,
            max_known_downloads: MAX_KNOWN_DOWNLOADS,
            max_downloads_per_peer: MAX_DOWNLOADS_PER_PEER,
            max_proxied_downloads: MAX_PROXIED_DOWNLOADS,
            max_proxied_downloads_per_peer: MAX_PROXIED_DOWNLOADS_PER_PEER,
            idle_limit: crate::pace::CLIENT_STALL_TIMEOUT,
            manifest_cache_bytes: 64 * 1024 * 1024,
        }
    }
}
