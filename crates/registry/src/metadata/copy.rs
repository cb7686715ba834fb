//! Copies of `registry.db`.

use std::path::Path;

use crate::error::RegistryError;

/// Copies the `registry.db` of a folder as of one moment into a file that does not exist, also while a registry writes to it.
/// Blobs are files of their own.
pub async fn copy_metadata(folder: &Path, to: &Path) -> Result<(), RegistryError> {
    Ok(edgewright_sqlite::copy(&folder.join("registry.db"), to).await?)
}
