//! `files` steps: fetch the entries, assemble the layer natively.

use edgewright_model::order::BlobRef;
use edgewright_model::outcome::{JobEvent, JobFailure, Phase};
use edgewright_oci::files::{self, WriteError};
use edgewright_oci::layer::{Layer, LayerWriter};

use crate::context::{BuildContext, Events};
use crate::failure;
use crate::image_state::{ImageState, blocking};

pub(crate) async fn build(
    state: &ImageState,
    ctx: &BuildContext,
    entries: &BlobRef,
    delete: &[String],
    events: Events<'_>,
) -> Result<Layer, JobFailure> {
    let local = |error: std::io::Error| failure::local(Phase::Build, &error);
    let folder = ctx.folder("files").map_err(local)?;
    let tar = folder.join(format!("{}.tar", entries.digest.hex()));
    let quiet = edgewright_oci::client::QUIET;
    let pulled = ctx.client.pull_blob_file(&entries.repository, &entries.digest, &tar, quiet).await;
    pulled.map_err(|error| failure::registry(Phase::Fetch, &error))?;
    let index = state.index(ctx).await?;
    let (delete, epoch) = (delete.to_vec(), state.epoch());
    let (layer, notes) = blocking(move || -> Result<_, WriteError> {
        let mut source = std::fs::File::open(&tar)
            .map(std::io::BufReader::new)
            .map_err(edgewright_oci::layer::LayerError::Read)?;
        let mut writer = LayerWriter::create(&folder.join("layer"), epoch)?;
        let notes = files::write(&mut source, &delete, &index, &mut writer)?;
        let layer = writer.finish()?;
        let _ = std::fs::remove_file(&tar);
        Ok((layer, notes))
    })
    .await?
    .map_err(|error| match &error {
        WriteError::Files(fault) => failure::image(Phase::Build, fault.to_string(), fault.hint()),
        WriteError::Layer(fault) => failure::layer(Phase::Build, fault),
    })?;
    for line in notes {
        events(JobEvent::Log { line });
    }
    Ok(layer)
}
