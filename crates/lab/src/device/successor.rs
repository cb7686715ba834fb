//! An image that cannot become good: the candidate with a layer on top, in which a unit that the boot needs
//! fails. It exists only as long as its lane: no registry has it.

use std::path::Path;

use edgewright_model::duration::Span;
use edgewright_model::error::Chain;
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::Reference;
use edgewright_model::spec::{Assertion, Check};
use edgewright_oci::image::{self, Image};
use edgewright_oci::layer::{Entry, Kind, Layer, LayerError, LayerWriter};
use edgewright_oci::media::Descriptor;
use edgewright_oci::{Client, ManifestBytes};
use jiff::Timestamp;

use crate::machine::LaneFault;

/// The largest config of an image that is read, in bytes.
const CONFIG_LIMIT: u64 = 8 * 1024 * 1024;
const UNIT: &str = "edgewright-lane-rollback.service";
const UNITS: &str = "usr/lib/systemd/system";
/// The end of a boot waits for this unit.
const REQUIRES: &str = "usr/lib/systemd/system/boot-complete.target.requires";
/// It fails on every image, because there is no such program.
const TEXT: &str = "[Unit]\nDescription=A failure that the lane `rollback` made\nBefore=boot-complete.target\n\
                    [Service]\nType=oneshot\nExecStart=/nonexistent/edgewright-lane-rollback\n";

/// The successor: its documents, and the one layer that is not the candidate's.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) manifest: ManifestBytes,
    pub(super) config: bytes::Bytes,
    pub(super) layer: Layer,
}

/// Its check set: where no boot loader counts boots, the agent finds the failure by it.
pub(super) fn checks() -> Vec<Check> {
    let check = |id| Check {
        id,
        assert: Assertion::Unit { name: UNIT.to_owned() },
        within: Span::from_secs(1),
        lanes: None,
    };
    "lane-rollback".parse().map(check).into_iter().collect()
}

/// Makes the successor of a candidate; its layer is written into a folder.
pub(super) async fn make(
    client: &Client,
    candidate: &ManifestRef,
    folder: &Path,
) -> Result<Successor, LaneFault> {
    let failed = |what: &str, why: &dyn std::fmt::Display| {
        LaneFault::of_host(format!("cannot make a successor that fails: {what}: {why}"))
    };
    let reference = Reference::Digest(candidate.digest.clone());
    let manifest = client.pull_manifest(&candidate.repository, &reference).await;
    let manifest = manifest.map_err(|error| failed("the manifest", &Chain(&error)))?;
    let malformed = |error: image::ImageError| LaneFault::of_image(error.to_string());
    let config = image::config(&manifest.bytes).map_err(malformed)?;
    let config = client.pull_blob_bytes(&candidate.repository, &config.digest, CONFIG_LIMIT).await;
    let config = config.map_err(|error| failed("the config", &Chain(&error)))?;
    let mut image = Image::parse(&manifest.bytes, &config).map_err(malformed)?;
    let path = folder.join("successor.tar.zst");
    let layer = tokio::task::spawn_blocking(move || layer(&path)).await;
    let layer = layer.map_err(|error| failed("the layer", &error))?;
    let layer = layer.map_err(|error| failed("the layer", &Chain(&error)))?;
    image.add_layer(layer.reference(), "a failing unit of the lane `rollback`", Timestamp::UNIX_EPOCH);
    let documents = image.documents(Timestamp::UNIX_EPOCH);
    let Descriptor { media_type, digest, .. } = documents.manifest_descriptor;
    let manifest = ManifestBytes { media_type, digest, bytes: documents.manifest };
    Ok(Successor { manifest, config: documents.config, layer })
}

/// Writes the layer. Blocking.
fn layer(path: &Path) -> Result<Layer, LayerError> {
    let mut writer = LayerWriter::create(path, Timestamp::UNIX_EPOCH)?;
    let unit = Entry { size: TEXT.len() as u64, ..Entry::new(format!("{UNITS}/{UNIT}"), Kind::File, 0o644) };
    writer.append(&unit, &mut TEXT.as_bytes())?;
    writer.append(&Entry::new(REQUIRES, Kind::Directory, 0o755), &mut std::io::empty())?;
    let link = Entry {
        link: format!("../{UNIT}").into_bytes(),
        ..Entry::new(format!("{REQUIRES}/{UNIT}"), Kind::Link, 0o777)
    };
    writer.append(&link, &mut std::io::empty())?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use edgewright_oci::layer::decompress;

    use super::*;

    #[test]
    fn the_layer_makes_the_end_of_the_boot_need_a_unit_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let layer = layer(&folder.path().join("layer")).unwrap();
        let file = std::io::BufReader::new(std::fs::File::open(&layer.path).unwrap());
        let mut tar = tar::Archive::new(decompress(file, &layer.reference().descriptor.media_type).unwrap());
        let entries = tar.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            (entry.path().unwrap().display().to_string(), link)
        });
        let entries: Vec<_> = entries.collect();
        assert_eq!(entries.len(), 3, "{entries:?}");
        assert_eq!(entries[2].1.as_deref(), Some("../edgewright-lane-rollback.service"));
        assert_eq!(checks().len(), 1);
        assert!(entries[2].0.contains("boot-complete.target.requires"), "{entries:?}");
    }
}
