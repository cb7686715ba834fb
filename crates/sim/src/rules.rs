//! Rules that stop a rollout: ours, and those of other products, as baselines.

use edgewright_rollout::gate::{Baseline, Gate, Outcome, Rules};

/// A rule looks at outcomes in the order of their arrival.
pub(crate) enum Rule {
    /// Ours.
    Gate(Box<Gate>),
    /// A stage must end with at least this share of good devices: `Fleet` of Flight Control.
    StageEnd { success: f64, good: u32, total: u32 },
    /// More than this share of failures among at least this many: the error threshold of AWS IoT Jobs.
    Running { failures: f64, least: u32, failed: u32, total: u32 },
    /// A sequential test of two rates, which must be guessed.
    Sprt { wealth: f64, baseline: f64, guess: f64, limit: f64 },
}

impl Rule {
    pub(crate) fn gate(baseline: Baseline) -> Self {
        Self::Gate(Box::new(Gate::new(Rules::default(), baseline, 1)))
    }

    pub(crate) const fn stage_end(success: f64) -> Self {
        Self::StageEnd { success, good: 0, total: 0 }
    }

    pub(crate) const fn running(failures: f64, least: u32) -> Self {
        Self::Running { failures, least, failed: 0, total: 0 }
    }

    pub(crate) fn sprt(baseline: f64, guess: f64, alpha: f64) -> Self {
        Self::Sprt { wealth: 0.0, baseline, guess, limit: -alpha.ln() }
    }

    /// Whether an outcome stops the rollout. `order`: the device's place.
    pub(crate) fn stops(&mut self, order: u32, has_failed: bool) -> bool {
        match self {
            Self::Gate(gate) => {
                let outcome = if has_failed { Outcome::Failed } else { Outcome::Good };
                gate.change(0, order, None, Some(outcome));
                // A good device never stops a rollout.
                has_failed && gate.stop().is_some()
            }
            Self::StageEnd { good, total, .. } => {
                *total += 1;
                *good += u32::from(!has_failed);
                false
            }
            Self::Running { failures, least, failed, total } => {
                *total += 1;
                *failed += u32::from(has_failed);
                *total >= *least && f64::from(*failed) > *failures * f64::from(*total)
            }
            Self::Sprt { wealth, baseline, guess, limit } => {
                let factor = if has_failed { *guess / *baseline } else { (1.0 - *guess) / (1.0 - *baseline) };
                // It begins again when it would accept the release: it has to look at all devices.
                *wealth = (*wealth + factor.ln()).max(-*limit);
                *wealth >= *limit
            }
        }
    }

    /// Whether the end of a stage stops the rollout.
    pub(crate) fn stops_at_end(&mut self) -> bool {
        let Self::StageEnd { success, good, total } = self else { return false };
        let is_bad = f64::from(*good) < *success * f64::from(*total);
        (*good, *total) = (0, 0);
        is_bad
    }
}
