//! How many devices of each stage were offered the release and have ended, kept up to date: a rollout of a
//! million devices does not count them after every report.

use crate::fleet::StageNumber;

/// Devices of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// Offered the release.
    pub(crate) offered: u32,
    /// Healthy, or back on what they had.
    pub(crate) ended: u32,
}

impl Tally {
    /// Whether this share of the reachable devices can have ended, if as many as possible are not reachable:
    /// all that were not offered the release, and `late` others.
    pub(crate) fn may_be_enough(self, percent: u8, late: u32) -> bool {
        let open = self.offered.saturating_sub(self.ended);
        let reachable = u64::from(self.offered - late.min(open));
        u64::from(self.ended) >= (reachable * u64::from(percent)).div_ceil(100)
    }
}

/// The tallies of all stages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tallies(Vec<Tally>);

impl Tallies {
    /// That a device of a stage counted as the first, and counts as the second now.
    pub(crate) fn change(&mut self, stage: StageNumber, before: Tally, after: Tally) {
        if before == after {
            return;
        }
        let stage = usize::from(stage);
        if self.0.len() <= stage {
            self.0.resize(stage + 1, Tally::default());
        }
        let tally = &mut self.0[stage];
        tally.offered = tally.offered + after.offered - before.offered;
        tally.ended = tally.ended + after.ended - before.ended;
    }

    /// Devices of a stage and the ones before it.
    pub(crate) fn to(&self, stage: StageNumber) -> Tally {
        self.0.iter().take(usize::from(stage) + 1).fold(Tally::default(), |sum, one| Tally {
            offered: sum.offered + one.offered,
            ended: sum.ended + one.ended,
        })
    }
}
