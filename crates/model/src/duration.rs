//! Durations as users write them: a whole number and a unit, `500ms`, `60s`, `10m`, `2h`, `7d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A duration that reads and prints like `60s`. At least 1 ms, at most 3650 d.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

/// Units with their length in milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// The longest duration, in milliseconds: 3650 days.
const LONGEST_MS: u64 = 3650 * 86_400_000;

impl Span {
    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The span as a standard duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, length) = UNITS.into_iter().find(|(_, length)| ms % length == 0).unwrap_or(("ms", 1));
        write!(f, "{}{unit}", ms / length)
    }
}

/// A text that is not a duration.
#[derive(Debug, thiserror::Error)]
#[error("invalid duration `{0}`: expected a whole number and a unit, such as 500ms, 60s, 10m, 2h or 7d")]
pub struct InvalidSpan(String);

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let invalid = || InvalidSpan(text.chars().take(80).collect());
        let ms = with_unit(text, &UNITS, LONGEST_MS).ok_or_else(invalid)?;
        Ok(Self(Duration::from_millis(ms)))
    }
}

/// A whole number and one of some units, as a multiple of the smallest: from 1 to `largest`.
pub(crate) fn with_unit(text: &str, units: &[(&str, u64)], largest: u64) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, length) = units.iter().find(|(name, _)| *name == unit)?;
    let value = number.parse::<u64>().ok()?.checked_mul(*length)?;
    (1..=largest).contains(&value).then_some(value)
}

impl TryFrom<String> for Span {
    type Error = InvalidSpan;

    fn try_from(text: String) -> Result<Self, InvalidSpan> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_round_trip_and_refuse_nonsense() {
        for text in ["500ms", "60s", "1m", "2h", "7d", "90s", "1500ms"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        assert_eq!("60s".parse::<Span>().unwrap().to_string(), "1m");
        for bad in ["", "0s", "5", "s", "-1s", "1.5h", "1 h", "99999999d", "1w", "18446744073709551615d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
