//! Pauses after failures: each twice as long as the one before, up to a limit.
//!
//! ```text
//! failures in a row   0   1      2        3        …   n
//! pause               0   first  2×first  4×first  …   longest
//! ```
//!
//! A [`Backoff`] has no state and no clock. The caller counts the failures and asks for the pause. If the
//! count is stored in a database, a restart does not shorten a pause.

use std::time::Duration;

/// The number of parts into which jitter divides the half of a pause that it may remove.
const JITTER_STEPS: u128 = 1 << u16::BITS;

/// How long to pause after consecutive failures. The pause doubles with each failure and never exceeds the
/// longest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    /// How many of the [`JITTER_STEPS`] parts are removed.
    jitter: u16,
}

impl Backoff {
    /// Pauses from `first` to `longest`. If `longest` is shorter than `first`, every pause is `first`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, jitter: 0 }
    }

    /// The same with every pause shortened by up to a half; the seed alone decides by how much. Clients with
    /// different seeds that fail together do not all retry at the same moment. The pauses of one client still
    /// never shrink.
    #[must_use]
    pub const fn with_jitter(self, seed: u64) -> Self {
        let [high, low, ..] = mix(seed).to_be_bytes();
        Self { jitter: u16::from_be_bytes([high, low]), ..self }
    }

    /// The pause after this many consecutive failures; zero after none.
    pub fn pause(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let factor = 2_u32.saturating_pow(doublings);
        let pause = self.first.saturating_mul(factor).min(self.longest.max(self.first));
        let cut = pause.as_nanos() / 2 * u128::from(self.jitter) / JITTER_STEPS;
        Duration::from_nanos_u128(pause.as_nanos() - cut)
    }
}

/// Spreads seeds that lie close together, such as row ids, over all numbers (the last step of SplitMix64).
const fn mix(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        for (first, longest, pauses) in [
            // After 0, 1, 2, 3, 7 and `u32::MAX` failures, in seconds.
            (second, minute, [0, 1, 2, 4, 60, 60]),
            (second * 5, second * 30, [0, 5, 10, 20, 30, 30]),
            (minute, second, [0, 60, 60, 60, 60, 60]),
            (Duration::ZERO, minute, [0; 6]),
            (second, Duration::MAX, [0, 1, 2, 4, 64, u64::from(u32::MAX)]),
        ] {
            let backoff = Backoff::new(first, longest);
            let got = [0, 1, 2, 3, 7, u32::MAX].map(|failures| backoff.pause(failures).as_secs());
            assert_eq!(got, pauses, "{first:?} to {longest:?}");
        }
    }

    #[test]
    fn jitter_differs_between_neighbouring_seeds_and_not_between_calls() {
        let plain = Backoff::new(Duration::from_secs(8), Duration::from_mins(10));
        let pauses: Vec<_> = (0..8).map(|seed| plain.with_jitter(seed).pause(3)).collect();
        assert!(pauses.iter().all(|pause| (16..=32).contains(&pause.as_secs())), "{pauses:?}");
        let distinct: std::collections::BTreeSet<_> = pauses.iter().collect();
        assert_eq!(distinct.len(), pauses.len(), "{pauses:?}");
        assert_eq!(plain.with_jitter(5), plain.with_jitter(5));
    }

    proptest! {
        #[test]
        fn pauses_never_shrink_and_stay_within_bounds(
            first in 0..u64::MAX,
            longest in 0..u64::MAX,
            failures in 1..u32::MAX,
            seed in proptest::option::of(any::<u64>()),
        ) {
            let (first, longest) = (Duration::from_nanos(first), Duration::from_nanos(longest));
            let plain = Backoff::new(first, longest);
            let backoff = seed.map_or(plain, |seed| plain.with_jitter(seed));
            let pause = backoff.pause(failures);
            prop_assert!(pause <= longest.max(first));
            prop_assert!(pause >= first / 2);
            prop_assert!(pause <= backoff.pause(failures + 1));
            prop_assert!(pause <= plain.pause(failures) && pause >= plain.pause(failures) / 2);
        }
    }
}
