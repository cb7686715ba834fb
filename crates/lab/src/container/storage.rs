//! Limits of the container storage: the most recently used images of lanes and builds are kept.
//!
//! ```text
//! WORK/containers/used/HEX       images that lanes pulled; the time of the file is the last use
//! WORK/containers/bases/HEX      base images of builds, noted by `build`
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use edgewright_model::Digest;
use edgewright_process::{CommandError, ProcessContext};

use super::engine::Engine;
use crate::error::LabError;

/// Images that no lane used for longer are removed, even if there are few.
const UNUSED: Duration = Duration::from_hours(14 * 24);
/// Images that were used within this time are kept, whatever their size: a build may use one, which podman
/// does not see.
const MAYBE_IN_USE: Duration = Duration::from_hours(6);
/// The time limit of a removal.
const REMOVAL: Duration = Duration::from_mins(2);

/// Limits of the container storage.
#[derive(Debug, Clone, Copy)]
pub struct StorageBounds {
    /// The number of images of lanes; more than concurrent jobs, because an image that a lane is about to
    /// start may be removed.
    pub images: usize,
    /// The unpacked size of all layers, in bytes.
    pub bytes: u64,
}

/// A note of an image's use.
type Note = (SystemTime, PathBuf);

/// The notes in a folder, oldest first.
fn notes(folder: &Path) -> Vec<Note> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut notes: Vec<Note> =
        entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    notes.sort();
    notes
}

fn is_older(used: SystemTime, age: Duration) -> bool {
    used.elapsed().is_ok_and(|elapsed| elapsed > age)
}

#[derive(serde::Deserialize)]
struct Layer {
    #[serde(rename = "diff-size", default)]
    size: u64,
}

/// The bytes of all layers, from the storage's own records: walking a few hundred thousand files would take
/// longer than a job. None if there is no storage yet.
fn stored(storage: &Path) -> Option<u64> {
    // `overlay-layers`, or that of another driver.
    let mut folders = fs::read_dir(storage).ok()?.flatten().map(|entry| entry.path());
    let folder = folders.find(|path| path.to_str().is_some_and(|path| path.ends_with("-layers")))?;
    let layers: Vec<Layer> = serde_json::from_slice(&fs::read(folder.join("layers.json")).ok()?).ok()?;
    Some(layers.iter().map(|layer| layer.size).sum())
}

impl Engine {
    /// Notes that a lane uses an image, so that [`Engine::prune`] keeps the most recently used ones.
    pub(crate) fn note_use(&self, image: &str) -> std::io::Result<()> {
        let used = self.folder.join("used");
        fs::create_dir_all(&used)?;
        fs::write(used.join(Digest::of(image).hex()), image)
    }

    /// Removes the images beyond the limits, the least recently used first. Images that a container uses are
    /// kept. Gives the number of removed images.
    pub async fn prune(&self, bounds: StorageBounds, processes: &ProcessContext) -> Result<usize, LabError> {
        let lanes = notes(&self.folder.join("used"));
        let excess = lanes.len().saturating_sub(bounds.images);
        let mut removed = 0;
        for (place, (used, note)) in lanes.iter().enumerate() {
            if place < excess || is_older(*used, UNUSED) {
                removed += usize::from(self.remove(note, processes).await?);
            }
        }
        let mut rest = [notes(&self.folder.join("used")), notes(&self.folder.join("bases"))].concat();
        rest.sort();
        for (_, note) in rest.iter().take_while(|(used, _)| is_older(*used, MAYBE_IN_USE)) {
            if stored(&self.folder.join("storage")).is_none_or(|bytes| bytes <= bounds.bytes) {
                break;
            }
            removed += usize::from(self.remove(note, processes).await?);
        }
        Ok(removed)
    }

    async fn remove(&self, note: &Path, processes: &ProcessContext) -> Result<bool, LabError> {
        let image = match tokio::fs::read_to_string(note).await {
            Ok(image) => image,
            // Another job removed it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(LabError::io("read", note)(error)),
        };
        // A build locks the note of its base; podman does not see the containers of its storage.
        let lock = tokio::fs::File::open(note).await.map_err(LabError::io("read", note))?.into_std().await;
        if lock.try_lock().is_err() {
            return Ok(false);
        }
        let gone = self.podman(processes).args(["rmi", "--ignore", &image]).deadline(REMOVAL);
        match gone.run().await {
            Ok(_) => match tokio::fs::remove_file(note).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(LabError::io("remove", note)(error))
                }
                _ => Ok(true),
            },
            Err(CommandError::Exit { .. }) => {
                tracing::debug!(image, "image is in use, not removed");
                Ok(false)
            }
            Err(error) => Err(LabError::Podman(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_read_from_the_storages_records() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(stored(folder.path()), None);
        let layers = folder.path().join("overlay-layers");
        fs::create_dir_all(folder.path().join("overlay/l")).unwrap();
        fs::create_dir_all(&layers).unwrap();
        assert_eq!(stored(folder.path()), None);
        let text = r#"[{"id": "a", "compressed-size": 1, "diff-size": 40}, {"id": "b", "parent": "a", "diff-size": 2}, {"id": "c"}]"#;
        fs::write(layers.join("layers.json"), text).unwrap();
        assert_eq!(stored(folder.path()), Some(42));
    }
}
