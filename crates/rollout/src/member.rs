//! A device in a rollout, as the engine has it.

use std::time::Duration;

use jiff::Timestamp;

use crate::fleet::{Device, StageNumber};
use crate::state::Progress;
use crate::tally::Tally;

/// A device.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) stage: StageNumber,
    pub(crate) variant: u32,
    pub(crate) site: u32,
    pub(crate) group: Option<u32>,
    pub(crate) patience: Duration,
    pub(crate) seen: Option<Timestamp>,
    pub(crate) progress: Option<Progress>,
    pub(crate) part: Part,
}

/// The part of a device in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It gets the release.
    Member,
    /// It does not, and counts in its redundancy group.
    Watched,
    /// It is no device any more.
    Gone,
}

impl Member {
    pub(crate) const fn new(device: &Device, stage: StageNumber, part: Part) -> Self {
        Self {
            stage,
            variant: device.variant,
            site: device.site,
            group: device.group,
            patience: device.patience,
            seen: device.seen,
            progress: None,
            part,
        }
    }

    /// Whether stages count it. What it did before it left remains.
    pub(crate) fn counts(&self) -> bool {
        self.part == Part::Member || self.progress.is_some_and(|progress| progress.has_ended())
    }

    /// What it is in the tally of its stage.
    pub(crate) fn tally(&self) -> Tally {
        if !self.counts() {
            return Tally::default();
        }
        Tally {
            offered: u32::from(self.progress.is_some()),
            ended: u32::from(self.progress.is_some_and(|progress| progress.has_ended())),
        }
    }
}
