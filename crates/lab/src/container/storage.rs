//! Bounds of container storage: the images that lanes and builds used last stay.
//!
//! ```text
//! WORK/containers/used/HEX       images that lanes pulled; the time of the file is the last use
//! WORK/containers/bases/HEX      images that builds stand on, noted by `build`
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use edgewright_model::Digest;
use edgewright_process::{CommandError, ProcessContext};

use super::engine::Engine;
use crate::error::LabError;

/// Images that no lane used for longer go, however few there are.
const UNUSED: Duration = Duration::from_hours(14 * 24);
/// Images that were used within this time stay whatever they take: a build may stand on one, which podman cannot see.
const MAYBE_IN_USE: Duration = Duration::from_hours(6);
/// Longest time of a removal.
const REMOVAL: Duration = Duration::from_mins(2);

/// What stays in container storage.
#[derive(Debug, Clone, Copy)]
pub struct StorageBounds {
    /// Images that lanes used; more than the jobs at a time, because one that a lane is just about to start may go.
    pub images: usize,
    /// All layers in bytes, as they are unpacked.
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

/// The bytes of all layers, from what the storage says of them: walking a few hundred thousand files would take longer than a job.
/// None where there is no storage yet.
fn stored(storage: &Path) -> Option<u64> {
    // `overlay-layers`, or that of another driver.
    let mut folders = fs::read_dir(storage).ok()?.flatten().map(|entry| entry.path());
    let folder = folders.find(|path| path.to_str().is_some_and(|path| path.ends_with("-layers")))?;
    let layers: Vec<Layer> = serde_json::from_slice(&fs::read(folder.join("layers.json")).ok()?).ok()?;
    Some(layers.iter().map(|layer| layer.size).sum())
}

impl Engine {
    /// Notes that a lane uses an image, so that [`Engine::prune`] keeps the ones used last.
    pub(crate) fn note_use(&self, image: &str) -> std::io::Result<()> {
        let used = self.folder.join("used");
        fs::create_dir_all(&used)?;
        fs::write(used.join(Digest::of(image).hex()), image)
    }

    /// Removes the images beyond the bounds, the one not used for longest first. One that a container uses stays. Gives how
    /// many went.
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
            // Another job was faster.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(LabError::io("read", note)(error)),
        };
        let gone = self.podman(processes).args(["rmi", "--ignore", &image]).deadline(REMOVAL);
        match gone.run().await {
            Ok(_) => match tokio::fs::remove_file(note).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(LabError::io("remove", note)(error))
                }
                _ => Ok(true),
            },
            Err(CommandError::Exit { .. }) => {
                tracing::debug!(image, "image is in use and stays");
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
    fn the_storage_says_how_large_it_is() {
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
