//! Indexes of an image's layers: what `files` steps look up instead of unpacking them.

use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_model::reference::RepoName;
use edgewright_oci::Client;
use edgewright_oci::index::{Cache, Index, LayerIndex};
use edgewright_oci::layer::MAX_UNPACKED_BYTES;
use edgewright_oci::media::Descriptor;
use edgewright_process::CancellationToken;
use tokio_util::io::SyncIoBridge;

use crate::failure;
use crate::image_state::blocking;

/// Maximum number of files and folders of a base: each has its name in memory.
const MAX_ENTRIES: usize = 4_000_000;

/// The index of all layers of an image, lowest first. Layers that the cache does not know are pulled from the
/// repository and read once.
///
/// # Errors
/// The registry; a layer that is no tar, or too large; the cancellation.
pub async fn index_image(
    (client, repository): (&Client, &RepoName),
    layers: &[Descriptor],
    cache: &Cache,
    cancel: &CancellationToken,
) -> Result<Arc<Index>, JobFailure> {
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest.clone()).collect();
    let known = blocking({
        let (cache, digests) = (cache.clone(), digests.clone());
        move || cache.merge(&digests)
    });
    if let Some(index) = known.await? {
        return Ok(index);
    }
    let mut index = Index::default();
    let mut left = MAX_UNPACKED_BYTES;
    for layer in layers {
        let layer = layer_index((client, repository), layer, cache, (&mut left, cancel)).await?;
        index = blocking(move || {
            index.apply(&layer);
            index
        })
        .await?;
        if index.len() > MAX_ENTRIES {
            let message = format!("the base has more than {MAX_ENTRIES} files");
            return Err(failure::image(Phase::Fetch, message, "use a smaller base image"));
        }
    }
    let index = Arc::new(index);
    cache.put_merged(digests, &index);
    Ok(index)
}

/// The index of a layer. `left`: how many bytes the image's layers may still unpack to.
async fn layer_index(
    (client, repository): (&Client, &RepoName),
    layer: &Descriptor,
    cache: &Cache,
    (left, cancel): (&mut u64, &CancellationToken),
) -> Result<Arc<LayerIndex>, JobFailure> {
    let digest = layer.digest.clone();
    if let Some(known) = blocking({
        let (cache, digest) = (cache.clone(), digest.clone());
        move || cache.get(&digest)
    })
    .await?
    {
        return Ok(known);
    }
    let reader = client.pull_blob(repository, &digest).await;
    let reader = reader.map_err(|error| failure::registry(Phase::Fetch, &error))?;
    let media_type = layer.media_type.clone();
    let bridge = SyncIoBridge::new(reader.into_read());
    // Whether the job is cancelled or its future dropped: the thread must end, too.
    let waited_for = cancel.child_token();
    let (limit, ended, _guard) = (*left, waited_for.clone(), waited_for.drop_guard());
    let is_over = move || ended.is_cancelled();
    let scanned = blocking(move || LayerIndex::scan_blob(bridge, &media_type, limit, is_over)).await?;
    let (index, rest) = scanned.map_err(|error| failure::base_layer(&error))?;
    *left = rest;
    keep_index(cache, digest, index.clone()).await?;
    Ok(Arc::new(index))
}

/// Caches a layer's index. Without it, the next build is only slower.
pub(crate) async fn keep_index(cache: &Cache, digest: Digest, index: LayerIndex) -> Result<(), JobFailure> {
    let cache = cache.clone();
    let kept = blocking(move || cache.put(&digest, &index)).await?;
    if let Err(error) = kept {
        tracing::warn!(%error, "cannot cache a layer's index");
    }
    Ok(())
}
