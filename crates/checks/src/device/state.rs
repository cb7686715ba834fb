//! How far the way of a device is: on a disk of its own, without a file system, so that neither a restart nor
//! what an image does to its own disk changes it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The bytes at the beginning of the disk that are used: a state and zeros.
const LENGTH: usize = 4096;

/// How far the way is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The installed image starts.
    #[default]
    Settling,
    /// The agent was asked to update: the device may restart.
    Travelling,
    /// The device is where it must be.
    Arrived,
}

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// How often the system was started.
    pub(super) boots: u32,
    /// The kernel's id of the last boot.
    pub(super) boot: String,
    /// How far.
    pub(super) phase: Phase,
}

impl State {
    /// Notes a boot, unless it is the last one: the runner may be started twice in it.
    pub(super) fn begin(&mut self, boot: &str) {
        if self.boot != boot {
            self.boots += 1;
            boot.clone_into(&mut self.boot);
        }
    }
}

/// The disk.
#[derive(Debug)]
pub(super) struct Store(PathBuf);

impl Store {
    pub(super) fn new(disk: &Path) -> Self {
        Self(disk.to_owned())
    }

    /// The state; an empty disk is that of a device that was never started.
    pub(super) fn load(&self) -> io::Result<State> {
        let mut bytes = Vec::new();
        File::open(&self.0)?.take(LENGTH as u64).read_to_end(&mut bytes)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        if end == 0 {
            return Ok(State::default());
        }
        serde_json::from_slice(&bytes[..end]).map_err(io::Error::other)
    }

    /// Writes it through to the disk.
    pub(super) fn save(&self, state: &State) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(state).map_err(io::Error::other)?;
        bytes.resize(LENGTH, 0);
        let mut disk = OpenOptions::new().write(true).open(&self.0)?;
        disk.write_all(&bytes)?;
        disk.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        std::fs::write(&disk, vec![0; 2 * LENGTH]).unwrap();
        let store = Store::new(&disk);
        let mut state = store.load().unwrap();
        assert_eq!(state, State::default());
        for boot in ["one", "one", "two"] {
            state.begin(boot);
        }
        state.phase = Phase::Travelling;
        store.save(&state).unwrap();
        assert_eq!((store.load().unwrap(), state.boots), (state.clone(), 2));
        // A shorter one leaves nothing of it.
        store.save(&State::default()).unwrap();
        assert_eq!(store.load().unwrap(), State::default());
        assert_eq!(std::fs::metadata(&disk).unwrap().len(), 2 * LENGTH as u64);
    }

    #[test]
    fn a_disk_that_is_missing_or_damaged_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        assert!(Store::new(&disk).load().is_err() && Store::new(&disk).save(&State::default()).is_err());
        std::fs::write(&disk, "no state").unwrap();
        assert!(Store::new(&disk).load().is_err());
    }
}
