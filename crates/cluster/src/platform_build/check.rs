//! What is checked of an image that a Pipeline has built.

use std::collections::BTreeMap;

use edgewright_job::ExecutorError;
use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::names::Platform;
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::Reference;
use edgewright_oci::image::{self, Image};

use super::{Building, platform};

/// The longest config of an image, in bytes.
const CONFIG_LIMIT: u64 = 4 * 1024 * 1024;

impl Building<'_> {
    /// Checks what was built against the registry. The inner error: why it cannot be used.
    pub(super) async fn check(
        &self,
        digest: Digest,
    ) -> Result<Result<(ManifestRef, u64, u64), String>, ExecutorError> {
        let manifest = ManifestRef { repository: self.step.task.repository.clone(), digest };
        let (built, size) = match self.read(&manifest).await {
            Ok(read) => read,
            Err(why) => return Ok(Err(why)),
        };
        let base = match self.step.base {
            None => None,
            Some(base) => Some(self.read(base).await.map_err(|why| platform(why, None))?.0),
        };
        let task = self.step.task;
        Ok(extends(&built, base.as_ref(), (&task.platform, &task.labels))
            .map(|()| (manifest, size, built.size())))
    }

    async fn read(&self, manifest: &ManifestRef) -> Result<(Image, u64), String> {
        let ManifestRef { repository, digest } = manifest;
        let failed = |error: &(dyn std::error::Error + 'static)| {
            format!("cannot read {repository}@{digest}: {}", Chain(error))
        };
        let pulled = self.client.pull_manifest(repository, &Reference::Digest(digest.clone())).await;
        let pulled = pulled.map_err(|error| failed(&error))?;
        if image::is_index(&pulled) {
            return Err(format!(
                "{repository}@{digest} is an index: give the digest of the platform's manifest"
            ));
        }
        let config = image::config(&pulled.bytes).map_err(|error| failed(&error))?;
        let config = self.client.pull_blob_bytes(repository, &config.digest, CONFIG_LIMIT).await;
        let config = config.map_err(|error| failed(&error))?;
        let image = Image::parse(&pulled.bytes, &config).map_err(|error| failed(&error))?;
        Ok((image, pulled.bytes.len() as u64))
    }
}

/// Whether an image is what an order asks for, as far as that can be seen: or why not.
fn extends(
    built: &Image,
    base: Option<&Image>,
    (platform, labels): (&Platform, &BTreeMap<String, String>),
) -> Result<(), String> {
    if let Some(other) = built.other_platform(platform) {
        return Err(format!("its image is for {other}, not for {platform}"));
    }
    let below = base.map(Image::layers).unwrap_or_default();
    let is_above = built.layers().len() >= below.len()
        && below.iter().zip(built.layers()).all(|(below, built)| below.diff_id == built.diff_id);
    if !is_above {
        return Err("its image does not begin with the layers of the base".to_owned());
    }
    let runtime = built.runtime();
    let missing = labels.iter().find(|(name, value)| {
        runtime.get("Labels").and_then(|labels| labels.get(name)?.as_str()) != Some(value.as_str())
    });
    match missing {
        Some((name, value)) => Err(format!("its image has no label `{name}={value}`")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use edgewright_oci::image::LayerRef;
    use edgewright_oci::media::{self, Descriptor};
    use jiff::Timestamp;

    use super::*;

    fn image(layers: &[&str], platform: &Platform) -> Image {
        let mut image = Image::scratch(platform);
        for layer in layers {
            let descriptor = Descriptor::new(media::LAYER_ZSTD, Digest::of(layer), 1);
            image.add_layer(
                LayerRef { descriptor, diff_id: Digest::of(layer) },
                layer,
                Timestamp::UNIX_EPOCH,
            );
        }
        image
    }

    #[test]
    fn an_image_must_have_platform_base_and_labels() {
        let (amd64, arm64): (Platform, Platform) =
            ("linux/amd64".parse().unwrap(), "linux/arm64".parse().unwrap());
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let none = BTreeMap::new();
        let base = image(&["os"], &amd64);
        let mut built = image(&["os", "more"], &amd64);
        let why = |built: &Image, labels| extends(built, Some(&base), (&amd64, labels)).unwrap_err();
        assert_eq!(extends(&built, Some(&base), (&amd64, &none)), Ok(()));
        assert_eq!(
            extends(&base, Some(&base), (&amd64, &none)),
            Ok(()),
            "a step that changes the config only"
        );
        assert!(why(&built, &labels).contains("no label `a=1`"));
        built.add_labels(&labels);
        assert_eq!(extends(&built, Some(&base), (&amd64, &labels)), Ok(()));
        for other in [&["more"][..], &["more", "os"], &[]] {
            assert!(why(&image(other, &amd64), &none).contains("layers of the base"), "{other:?}");
        }
        assert!(why(&image(&["os"], &arm64), &none).contains("linux/arm64"));
    }
}
