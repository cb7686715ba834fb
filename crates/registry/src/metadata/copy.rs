//! Copies of `registry.db`.

use std::path::Path;

use crate::error::RegistryError;

/// Copies a consistent snapshot of the `registry.db` of a folder into a new file, also while a registry
/// writes to it. Blobs are not copied.
pub async fn copy_metadata(folder: &Path, to: &Path) -> Result<(), RegistryError> {
    Ok(edgewright_sqlite::copy(&folder.join("registry.db"), to).await?)
}
