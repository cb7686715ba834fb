//! Settings: total values with reasons; the server's configuration is resolved elsewhere.

use std::path::PathBuf;
use std::time::Duration;

/// How long an upload that nobody touches is kept.
pub const UPLOAD_EXPIRY: Duration = Duration::from_hours(24);

/// How old something is that collection takes, where nothing holds it.
pub const COLLECT_AFTER: Duration = Duration::from_hours(24);

/// Largest manifest that is taken, in bytes (distribution-spec asks for at least 4 MiB).
pub const MANIFEST_LIMIT: usize = 4 * 1024 * 1024;

/// Where the registry lives, and its bounds. Make one by [`RegistrySettings::new`] and change what you must.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Folder of the registry: `registry.db`, `blobs/`, `uploads/`. Made where it is missing. One process at a time.
    pub folder: PathBuf,
    /// Uploads idle for longer are dropped by `maintenance`.
    pub upload_expiry: Duration,
    /// What nothing holds is collected once it is older. Longer than any push takes from its first blob to its manifest.
    pub collect_after: Duration,
    /// Upload sessions that may be open at a time, each with a file; more are answered 429.
    pub max_uploads: usize,
    /// Blob answers that may be in flight at a time, each with at most four buffers of 256 KiB; more are answered 429.
    pub max_downloads: usize,
    /// A client that neither sends nor takes a byte for so long is cut off.
    pub idle_limit: Duration,
    /// Manifests kept in memory, in bytes.
    pub manifest_cache_bytes: usize,
}

impl RegistrySettings {
    /// The default bounds for a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            upload_expiry: UPLOAD_EXPIRY,
            collect_after: COLLECT_AFTER,
            max_uploads: 1024,
            max_downloads: 256,
            idle_limit: Duration::from_mins(1),
            manifest_cache_bytes: 64 * 1024 * 1024,
        }
    }
}
