//! Sizes as users write them: a whole number and a unit, `500MiB`, `2GiB`, `800MB`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes that reads and prints like `2GiB`. At least 1 byte, at most 1 PiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

/// Units with their length in bytes, longest first, those of 1024 before those of 1000.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];
/// The largest size, in bytes.
const LARGEST: u64 = 1 << 50;

impl ByteSize {
    /// A size of this many bytes, clamped to the range from 1 byte to 1 PiB.
    pub const fn from_bytes(bytes: u64) -> Self {
        match bytes {
            0 => Self(1),
            1..LARGEST => Self(bytes),
            _ => Self(LARGEST),
        }
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// A number of bytes for display, rounded down to a tenth: `1.9 GiB`.
pub fn rounded(bytes: u64) -> String {
    let unit = UNITS[..4].iter().find(|(_, length)| bytes >= *length);
    match unit {
        Some((unit, length)) => format!("{}.{} {unit}", bytes / length, bytes % length * 10 / length),
        None => format!("{bytes} bytes"),
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, length) =
            UNITS.into_iter().find(|(_, length)| self.0.is_multiple_of(*length)).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / length)
    }
}

/// A text that is not a size.
#[derive(Debug, thiserror::Error)]
#[error("invalid size `{0}`: expected a whole number and a unit, such as 500MiB or 2GiB")]
pub struct InvalidByteSize(String);

impl FromStr for ByteSize {
    type Err = InvalidByteSize;

    fn from_str(text: &str) -> Result<Self, InvalidByteSize> {
        let invalid = || InvalidByteSize(text.chars().take(80).collect());
        crate::duration::with_unit(text, &UNITS, LARGEST).map(Self).ok_or_else(invalid)
    }
}

impl TryFrom<String> for ByteSize {
    type Error = InvalidByteSize;

    fn try_from(text: String) -> Result<Self, InvalidByteSize> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, shown) in [
            ("2GiB", 2 << 30, "2GiB"),
            ("2048MiB", 2 << 30, "2GiB"),
            ("500MB", 500_000_000, "500MB"),
            ("1025B", 1025, "1025B"),
            ("1024TiB", 1 << 50, "1024TiB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown), "{text}");
            assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
        }
        for text in ["", "2", "GiB", "2 GiB", "2gib", "-1GiB", "0B", "1025TiB", "99999999999999999999B", "2G"]
        {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn people_get_a_tenth() {
        for (bytes, want) in
            [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), ((2 << 30) - 1, "1.9 GiB")]
        {
            assert_eq!(rounded(bytes), want);
        }
        assert_eq!(rounded(u64::MAX), "16777215.9 TiB");
    }
}
