//! Copies of `registry.db`.

use std::path::Path;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use crate::error::RegistryError;

/// Copies the `registry.db` of a folder as of one moment into a file that does not exist, also while a registry writes to it.
/// Blobs are files of their own.
pub async fn copy_metadata(folder: &Path, to: &Path) -> Result<(), RegistryError> {
    let options = SqliteConnectOptions::new().filename(folder.join("registry.db")).create_if_missing(false);
    let mut connection = options.connect().await?;
    sqlx::query("VACUUM INTO ?").bind(to.display().to_string()).execute(&mut connection).await?;
    Ok(())
}
