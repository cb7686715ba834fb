//! Which files differ between two images of the same step: what a rebuild reports if it gave other bytes.

use std::collections::BTreeMap;
use std::io::Read;

use edgewright_model::Digest;
use edgewright_model::digest::{Algorithm, Hasher};
use edgewright_model::order::ManifestRef;
use edgewright_model::reference::Reference;
use edgewright_oci::image::{self, ImageError};
use edgewright_oci::layer::{Entry, LayerError, decompress, read_entries};
use edgewright_oci::media::Descriptor;
use edgewright_oci::{Client, ClientError};
use tokio_util::io::SyncIoBridge;

/// Differences that are named; the others are counted.
const SHOWN: usize = 10;

/// Why two images cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Registry(#[from] ClientError),
    #[error(transparent)]
    Manifest(#[from] ImageError),
    #[error("cannot read a layer")]
    Layer(#[from] LayerError),
    /// The thread that reads a layer panicked: a defect.
    #[error("reading a layer panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// A file of a layer, with the digest of its content.
type Files = BTreeMap<Vec<u8>, (Entry, Digest)>;

/// Compares the topmost layers that differ. Gives a line for each of the first files that differ, such as
/// `etc/machine-id: content`, and one for the number of further ones. Images with equal layers differ in
/// their config.
///
/// # Errors
/// The registry does not have both images, or a layer cannot be read.
pub async fn differences(
    client: &Client,
    recorded: &ManifestRef,
    rebuilt: &ManifestRef,
) -> Result<Vec<String>, CompareError> {
    let (before, after) = (layers(client, recorded).await?, layers(client, rebuilt).await?);
    let same = before.iter().zip(&after).take_while(|(a, b)| a.digest == b.digest).count();
    if same == before.len().max(after.len()) {
        return Ok(vec!["the image config: the layers are equal".to_owned()]);
    }
    let before = files(client, recorded, before.get(same)).await?;
    let after = files(client, rebuilt, after.get(same)).await?;
    Ok(describe(&before, &after))
}

async fn layers(client: &Client, manifest: &ManifestRef) -> Result<Vec<Descriptor>, CompareError> {
    let by_digest = Reference::Digest(manifest.digest.clone());
    let pulled = client.pull_manifest(&manifest.repository, &by_digest).await?;
    Ok(image::layers(&pulled.bytes)?)
}

/// The files of a layer, streamed from the registry.
async fn files(
    client: &Client,
    manifest: &ManifestRef,
    layer: Option<&Descriptor>,
) -> Result<Files, CompareError> {
    let Some(layer) = layer else { return Ok(Files::new()) };
    let blob = client.pull_blob(&manifest.repository, &layer.digest).await?.into_read();
    let (blob, media_type) = (SyncIoBridge::new(blob), layer.media_type.clone());
    let read = tokio::task::spawn_blocking(move || read_files(decompress(blob, &media_type)?)).await;
    Ok(read.map_err(CompareError::Panicked)??)
}

fn read_files(tar: impl Read) -> Result<Files, LayerError> {
    let mut files = Files::new();
    read_entries(tar, |entry, content| {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match content.read(&mut buffer).map_err(LayerError::Read)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        files.insert(entry.path.clone(), (entry, hasher.finish()));
        Ok(())
    })?;
    Ok(files)
}

fn describe(before: &Files, after: &Files) -> Vec<String> {
    let removed = before.keys().filter(|path| !after.contains_key(*path));
    let mut lines: Vec<(&[u8], String)> = removed.map(|path| (&path[..], "missing".to_owned())).collect();
    for (path, (entry, content)) in after {
        let what = match before.get(path) {
            None => "added".to_owned(),
            Some((was, old_content)) => {
                let mut what = attributes(was, entry);
                if old_content != content {
                    what.push("content");
                }
                what.join(", ")
            }
        };
        if !what.is_empty() {
            lines.push((path, what));
        }
    }
    lines.sort();
    if lines.is_empty() {
        return vec!["the order or encoding of the layer: all files are equal".to_owned()];
    }
    let more = lines.len().saturating_sub(SHOWN);
    let shown = lines.into_iter().take(SHOWN);
    let mut shown: Vec<String> =
        shown.map(|(path, what)| format!("{}: {what}", String::from_utf8_lossy(path))).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown
}

/// The attributes in which two entries differ. A size is not named: the content differs then.
fn attributes(was: &Entry, now: &Entry) -> Vec<&'static str> {
    let pairs = [
        ("type", was.kind != now.kind || was.device != now.device),
        ("mode", was.mode != now.mode),
        ("owner", (was.user, was.group) != (now.user, now.group)),
        ("mtime", was.time != now.time),
        ("link target", was.link != now.link),
        ("extended attributes", was.xattrs != now.xattrs),
    ];
    pairs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use edgewright_oci::layer::Kind;

    use super::*;

    fn files(entries: &[(&str, u32, u64, &str)]) -> Files {
        let file = |(path, mode, time, content): &(&str, u32, u64, &str)| {
            let entry = Entry { time: *time, ..Entry::new(*path, Kind::File, *mode) };
            (path.as_bytes().to_vec(), (entry, Digest::of(content)))
        };
        entries.iter().map(file).collect()
    }

    #[test]
    fn differing_files_are_named_with_their_differences() {
        let before = files(&[("a", 0o644, 1, "x"), ("b", 0o644, 1, "x"), ("c", 0o644, 1, "x")]);
        let after = files(&[("a", 0o644, 1, "x"), ("b", 0o600, 2, "y"), ("d", 0o644, 1, "x")]);
        assert_eq!(describe(&before, &after), ["b: mode, mtime, content", "c: missing", "d: added"]);
        assert_eq!(describe(&before, &before), ["the order or encoding of the layer: all files are equal"]);
    }

    #[test]
    fn only_the_first_differences_are_named() {
        let names: Vec<String> = (0..25).map(|number| format!("{number:02}")).collect();
        let after: Vec<_> = names.iter().map(|name| (name.as_str(), 0o644, 1, "x")).collect();
        let lines = describe(&Files::new(), &files(&after));
        assert_eq!((lines.len(), lines[0].as_str(), lines[10].as_str()), (11, "00: added", "and 15 more"));
    }
}
