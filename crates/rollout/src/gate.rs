//! The gate: whether a release fails more often than the fleet's own baseline. It looks at every outcome as
//! it arrives.
//!
//! It bets against "this release fails no more often than the baseline `p0`". For each of some higher rates
//! `p` it holds a wealth that is multiplied by `p / p0` with a failed device and by `(1 - p) / (1 - p0)`
//! with a good one; between them, for an outcome `x` from 0 to 1, by `1 + b (x - p0)` with
//! `b = (p - p0) / (p0 (1 - p0))`. If the baseline is true, none of these factors has a mean above 1, so
//! the mean of the wealths is an *e-process*: the probability that it ever reaches `1 / alpha` is at most
//! `alpha` (Ville's inequality), however often it is looked at. No rate of a bad release has to be guessed.
//!
//! The wealth is a function of counts, so it depends neither on the order of reports nor on repetitions.

use serde::{Deserialize, Serialize};

/// Failure rates of bad releases that are bet on.
const RATES: [f64; 6] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
/// A rate is bet on if it is at least this multiple of the baseline.
const MARGIN: f64 = 1.5;
/// What a device counts as whose confirmation is late: it may be switched off, or it may never come back.
pub const LATE_OUTCOME: f64 = 0.25;

/// The outcomes of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcomes {
    /// Confirmed as healthy.
    pub good: u32,
    /// Failed, or returned to their former image.
    pub failed: u32,
    /// Without a confirmation for longer than theirs take.
    pub late: u32,
}

impl Outcomes {
    /// The share of failures, with late devices in part; none without devices.
    pub fn rate(&self) -> Option<f64> {
        let total = f64::from(self.good) + f64::from(self.failed) + f64::from(self.late);
        (total > 0.0).then(|| (f64::from(self.failed) + LATE_OUTCOME * f64::from(self.late)) / total)
    }
}

/// The failure rate of releases that were good, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Baseline(f64);

impl Baseline {
    /// What is assumed without a history, and the number of devices that this assumption counts for.
    const PRIOR: (f64, f64) = (0.005, 1_000.0);
    /// The lowest and the highest baseline. Below the former, one failure would be proof; above the latter,
    /// a fleet has another problem than a release.
    const BOUNDS: (f64, f64) = (0.001, 0.1);

    /// The baseline of a fleet with these outcomes of releases that were completed.
    pub fn of(history: Outcomes) -> Self {
        let (rate, weight) = Self::PRIOR;
        let total = f64::from(history.good) + f64::from(history.failed) + f64::from(history.late);
        let failures = history.rate().unwrap_or_default() * total;
        Self::new((failures + rate * weight) / (total + weight))
    }

    /// A rate, brought into the bounds.
    pub fn new(rate: f64) -> Self {
        let (low, high) = Self::BOUNDS;
        Self(if rate.is_nan() { low } else { rate.clamp(low, high) })
    }

    /// The rate.
    pub const fn rate(self) -> f64 {
        self.0
    }
}

/// The logarithm of the mean wealth of all bets.
pub fn log_wealth(outcomes: Outcomes, baseline: Baseline) -> f64 {
    let p0 = baseline.rate();
    let wealth = RATES.map(|p| {
        if p < MARGIN * p0 {
            return f64::NEG_INFINITY;
        }
        let bet = (p - p0) / (p0 * (1.0 - p0));
        f64::from(outcomes.good) * (-bet * p0).ln_1p()
            + f64::from(outcomes.failed) * (bet * (1.0 - p0)).ln_1p()
            + f64::from(outcomes.late) * (bet * (LATE_OUTCOME - p0)).ln_1p()
    });
    let bets = wealth.iter().filter(|value| value.is_finite()).count();
    let most = wealth.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if bets == 0 {
        return f64::NEG_INFINITY;
    }
    let sum: f64 = wealth.iter().map(|value| (value - most).exp()).sum();
    most + sum.ln() - f64::from(u8::try_from(bets).unwrap_or(u8::MAX)).ln()
}

/// Rules of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// The probability with which all devices together stop a release that is no worse than the baseline.
    pub alpha: f64,
    /// The same for all variants together, each by its own devices.
    pub variants_alpha: f64,
    /// This many failures among the first devices stop it, whatever the baseline.
    pub first: First,
}

/// "`failures` of the first `devices`": in the order in which they were offered the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct First {
    /// How many failures stop the rollout.
    pub failures: u32,
    /// Among how many devices.
    pub devices: u32,
}

impl Default for Rules {
    /// One healthy release in a hundred is stopped at most.
    fn default() -> Self {
        Self { alpha: 0.005, variants_alpha: 0.004, first: First { failures: 2, devices: 10 } }
    }
}

/// Why a gate stopped a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// More of the first devices failed than are accepted.
    First,
    /// All devices together are evidence against the release.
    Pooled,
    /// The devices of one variant are; its index.
    Variant(usize),
}

/// What is known about a release.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    rules: Rules,
    baseline: Baseline,
    pooled: Outcomes,
    variants: Vec<Outcomes>,
    first_failures: u32,
}

impl Gate {
    /// A gate without outcomes.
    pub fn new(rules: Rules, baseline: Baseline, variants: usize) -> Self {
        let variants = vec![Outcomes::default(); variants];
        Self { rules, baseline, pooled: Outcomes::default(), variants, first_failures: 0 }
    }

    /// Changes the outcome of one device: `order` is its place among the devices that were offered the
    /// release, from 0.
    pub fn change(&mut self, variant: usize, order: u32, from: Option<Outcome>, to: Option<Outcome>) {
        let own = self.variants.get_mut(variant);
        for outcomes in [Some(&mut self.pooled), own].into_iter().flatten() {
            for (outcome, is_added) in [(from, false), (to, true)] {
                let count = match outcome {
                    Some(Outcome::Good) => &mut outcomes.good,
                    Some(Outcome::Failed) => &mut outcomes.failed,
                    Some(Outcome::Late) => &mut outcomes.late,
                    None => continue,
                };
                *count = if is_added { count.saturating_add(1) } else { count.saturating_sub(1) };
            }
        }
        if order < self.rules.first.devices {
            let failures = |outcome| u32::from(outcome == Some(Outcome::Failed));
            self.first_failures = self.first_failures + failures(to) - failures(from);
        }
    }

    /// Whether the release is to be stopped, and why.
    pub fn stop(&self) -> Option<Stop> {
        if self.rules.first.failures > 0 && self.first_failures >= self.rules.first.failures {
            return Some(Stop::First);
        }
        if self.pooled_evidence() >= 1.0 {
            return Some(Stop::Pooled);
        }
        (0..self.variants.len()).find(|&variant| self.variant_evidence(variant) >= 1.0).map(Stop::Variant)
    }

    /// The evidence of all devices against the release, as a part of the limit: 1 stops it. Logarithmic: 0.5
    /// is the square root of the wealth that stops it. At least 0.
    pub fn pooled_evidence(&self) -> f64 {
        part(self.pooled, self.baseline, self.rules.alpha)
    }

    /// The same of one variant.
    pub fn variant_evidence(&self, variant: usize) -> f64 {
        let count = f64::from(u32::try_from(self.variants.len()).unwrap_or(u32::MAX));
        let outcomes = self.variants.get(variant).copied().unwrap_or_default();
        part(outcomes, self.baseline, self.rules.variants_alpha / count)
    }

    /// Outcomes of all devices.
    pub const fn outcomes(&self) -> Outcomes {
        self.pooled
    }
}

/// The outcome of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It runs the release and is healthy.
    Good,
    /// It could not run it, or left it again.
    Failed,
    /// Nothing is known, and something should be.
    Late,
}

fn part(outcomes: Outcomes, baseline: Baseline, alpha: f64) -> f64 {
    (log_wealth(outcomes, baseline) / -alpha.ln()).max(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wealth(good: u32, failed: u32, late: u32) -> f64 {
        log_wealth(Outcomes { good, failed, late }, Baseline::new(0.005))
    }

    #[test]
    fn failures_count_against_a_release_and_good_devices_for_it() {
        assert!(wealth(0, 0, 0).abs() < 1e-12);
        assert!(wealth(0, 1, 0) > wealth(0, 0, 1) && wealth(0, 0, 1) > wealth(1, 0, 0));
        assert!(wealth(200, 1, 0) < 0.0, "one of 200 is the baseline");
        assert!(wealth(90, 10, 0) > 5.0);
    }

    #[test]
    fn the_first_failures_stop_it_and_a_change_of_mind_is_counted() {
        let mut gate = Gate::new(Rules { alpha: 1e-9, ..Rules::default() }, Baseline::new(0.1), 1);
        gate.change(0, 0, None, Some(Outcome::Failed));
        gate.change(0, 10, None, Some(Outcome::Failed));
        assert_eq!(gate.stop(), None, "the eleventh is none of the first ten");
        gate.change(0, 9, None, Some(Outcome::Late));
        gate.change(0, 9, Some(Outcome::Late), Some(Outcome::Failed));
        assert_eq!(gate.stop(), Some(Stop::First));
        assert_eq!(gate.outcomes(), Outcomes { good: 0, failed: 3, late: 0 });
    }

    #[test]
    fn one_bad_variant_is_found_among_good_ones() {
        let mut gate = Gate::new(Rules::default(), Baseline::new(0.005), 8);
        for order in 0..2_000 {
            gate.change(order % 8, 100, None, Some(Outcome::Good));
        }
        for _ in 0..12 {
            gate.change(3, 100, None, Some(Outcome::Failed));
        }
        assert_eq!(gate.stop(), Some(Stop::Variant(3)), "{}", gate.pooled_evidence());
    }

    proptest! {
        /// The mean factor of one more device is 1 at the baseline: an e-process. Below, it is less.
        #[test]
        fn a_release_at_the_baseline_wins_nothing(good in 0_u32..3_000, failed in 0_u32..20, late in 0_u32..20) {
            let now = wealth(good, failed, late).exp();
            let at = |rate: f64| rate * wealth(good, failed + 1, late).exp() + (1.0 - rate) * wealth(good + 1, failed, late).exp();
            prop_assert!((at(0.005) / now - 1.0).abs() < 1e-9);
            prop_assert!(at(0.002) <= now);
        }
    }
}
