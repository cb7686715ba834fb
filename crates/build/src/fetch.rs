//! The files of a step: in the order, or in the registry.

use std::io::{self, BufReader, Cursor, Read, Seek};
use std::path::Path;

use base64::Engine as _;
use edgewright_model::order::Context;
use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_oci::client::QUIET;

use crate::context::BuildContext;
use crate::failure;

/// A tar that can be read twice.
pub(crate) trait Tar: Read + Seek + Send {}
impl<T: Read + Seek + Send> Tar for T {}

/// Opens a step's tar. A tar from the registry is stored in `folder` as long as it is open.
pub(crate) async fn open(
    ctx: &BuildContext,
    context: &Context,
    folder: &Path,
) -> Result<Box<dyn Tar>, JobFailure> {
    let local = |error: io::Error| failure::local(Phase::Fetch, &error);
    match context {
        Context::Inline { tar } => {
            let tar = base64::engine::general_purpose::STANDARD.decode(tar);
            let tar = tar.map_err(|error| failure::local(Phase::Fetch, &error))?;
            Ok(Box::new(Cursor::new(tar)))
        }
        Context::Blob(blob) => {
            let path = folder.join(format!("{}.tar", blob.digest.hex()));
            let pulled = ctx.client.pull_blob_file(&blob.repository, &blob.digest, &path, QUIET).await;
            pulled.map_err(|error| failure::registry(Phase::Fetch, &error))?;
            let file = tokio::fs::File::open(&path).await.map_err(local)?.into_std().await;
            tokio::fs::remove_file(&path).await.map_err(local)?;
            Ok(Box::new(BufReader::new(file)))
        }
    }
}
