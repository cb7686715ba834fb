//! `restore`: an empty data folder from a backup.

use std::path::Path;

use edgewright_server::backup;

use crate::args::Global;
use crate::exit::{End, Failure};
use crate::output;
use crate::settings::Environment;

/// Restores a backup.
pub(crate) async fn restore(global: &Global, file: &Path) -> Result<End, Failure> {
    let folder = Environment::read().data_folder(global.data.clone());
    let manifest = backup::restore(file, &folder).await?;
    output::note(&format!(
        "restored the databases of {} into {}\nnext: copy the blobs into {}, then start the server; \
         channels are available again when it has released the newest commits",
        manifest.created,
        folder.root().display(),
        folder.registry().join("blobs").display()
    ));
    Ok(End::Good)
}
