//! `Range` (RFC 9110, section 14) and `Content-Range` of chunked pushes, as pure functions.

use std::ops::Range;

/// The limit of ranges in one request: clients of zstd:chunked layers send about a thousand.
const MAX_RANGES: usize = 8192;

/// The requested parts of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Everything: no header, an unsupported one, or ranges that are longer than the blob together.
    Whole,
    /// These parts, none of them empty, in the requested order.
    Parts(Vec<Range<u64>>),
    /// No range is satisfiable: 416.
    Nothing,
}

/// Parses a `Range` header for a blob of `size` bytes.
pub(crate) fn parse_range(header: Option<&str>, size: u64) -> Asked {
    let Some(list) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Asked::Whole;
    };
    let mut parts = Vec::new();
    for (index, text) in list.split(',').map(str::trim).filter(|text| !text.is_empty()).enumerate() {
        if index == MAX_RANGES {
            return Asked::Whole;
        }
        match parse_one(text, size) {
            Some(part) if part.is_empty() => {}
            Some(part) => parts.push(part),
            None => return Asked::Whole,
        }
    }
    let total: u128 = parts.iter().map(|part| u128::from(part.end - part.start)).sum();
    match parts.len() {
        0 => Asked::Nothing,
        // Overlapping ranges could multiply a small request into a huge response.
        2.. if total > u128::from(size) => Asked::Whole,
        _ => Asked::Parts(parts),
    }
}

/// `None`: not a range. An empty part: not satisfiable.
fn parse_one(text: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = text.split_once('-')?;
    if first.is_empty() {
        let suffix: u64 = last.parse().ok()?;
        return Some(size.saturating_sub(suffix)..size);
    }
    let first: u64 = first.parse().ok()?;
    let last = if last.is_empty() { u64::MAX } else { last.parse().ok()? };
    if last < first {
        return None;
    }
    Some(first.min(size)..last.saturating_add(1).min(size))
}

/// Reads the `Content-Range` of a chunk: `0-1023`, or with the unit and total that some clients add. `None`:
/// malformed.
pub(crate) fn parse_content_range(header: &str) -> Option<Range<u64>> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
    let (text, _) = text.split_once('/').unwrap_or((text, ""));
    let (first, last) = text.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then(|| first..last.saturating_add(1))
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_follow_the_rfc() {
        let parts = |list: &[Range<u64>]| Asked::Parts(list.to_vec());
        let cases = [
            (None, Asked::Whole),
            (Some("bytes=0-0"), parts(&[0..1])),
            (Some("bytes=2-"), parts(&[2..10])),
            (Some("bytes=-3"), parts(&[7..10])),
            (Some("bytes=-30"), parts(&[0..10])),
            (Some("bytes=5-99"), parts(&[5..10])),
            (Some("bytes=0-1, 4-5,8-"), parts(&[0..2, 4..6, 8..10])),
            (Some("bytes=0-1,20-30"), parts(&[0..2])),
            (Some("bytes=10-"), Asked::Nothing),
            (Some("bytes=-0"), Asked::Nothing),
            (Some("bytes=3-2"), Asked::Whole),
            (Some("bytes=a-b"), Asked::Whole),
            (Some("lines=1-2"), Asked::Whole),
            (Some("bytes=0-9,0-9,0-9"), Asked::Whole),
            (Some("bytes=0-18446744073709551615"), parts(&[0..10])),
        ];
        for (header, expected) in cases {
            assert_eq!(parse_range(header, 10), expected, "{header:?}");
        }
        assert_eq!(parse_range(Some("bytes=0-"), 0), Asked::Nothing);
        assert_eq!(parse_range(Some("bytes=0-1,0-"), u64::MAX), Asked::Whole);
    }

    #[test]
    fn content_ranges_of_real_clients_are_parsed() {
        assert_eq!(parse_content_range("0-9"), Some(0..10));
        assert_eq!(parse_content_range("bytes 5-9/100"), Some(5..10));
        for bad in ["", "9-5", "a-b", "5", "-5", "5-"] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parts_lie_inside_and_never_exceed_the_whole(header in "bytes=([0-9]{0,3}-[0-9]{0,3},?){0,8}", size in 0..500_u64) {
            if let Asked::Parts(parts) = parse_range(Some(&header), size) {
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= size));
                prop_assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= size);
            }
        }
    }
}
