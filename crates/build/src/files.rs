//! `files` steps: fetch the entries and write the layer, without a container.

use edgewright_model::order::Context;
use edgewright_model::outcome::{JobEvent, JobFailure, Phase};
use edgewright_oci::files::{self, WriteError};
use edgewright_oci::layer::{Layer, LayerWriter};

use crate::context::{BuildContext, Events};
use crate::image_state::{ImageState, blocking};
use crate::{failure, fetch};

pub(crate) async fn build(
    state: &ImageState,
    ctx: &BuildContext,
    entries: &Context,
    delete: &[String],
    events: Events<'_>,
) -> Result<Layer, JobFailure> {
    let local = |error: std::io::Error| failure::local(Phase::Build, &error);
    let folder = ctx.folder("files").map_err(local)?;
    let mut entries = fetch::open(ctx, entries, &folder).await?;
    let index = state.index(ctx).await?;
    let (delete, epoch) = (delete.to_vec(), state.epoch());
    let (layer, notes) = blocking(move || -> Result<_, WriteError> {
        let mut writer = LayerWriter::create(&folder.join("layer"), epoch)?;
        let notes = files::write(&mut entries, &delete, &index, &mut writer)?;
        Ok((writer.finish()?, notes))
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
