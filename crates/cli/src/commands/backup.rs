//! `backup`: both databases into one file.

use std::path::Path;

use edgewright_process::Clock;
use edgewright_server::backup;

use crate::args::Global;
use crate::exit::{End, Failure};
use crate::output;
use crate::settings::Environment;

/// Writes a backup.
pub(crate) async fn backup(global: &Global, file: &Path) -> Result<End, Failure> {
    let folder = Environment::read().data_folder(global.data.clone());
    backup::backup(&folder, file, Clock::system().now()).await?;
    output::note(&format!(
        "{} holds both databases\nnext: copy {}",
        file.display(),
        folder.registry().join("blobs").display()
    ));
    Ok(End::Good)
}
