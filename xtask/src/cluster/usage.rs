//! What was used: processor time of finished children, bytes of a folder.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::workspace;

/// Clock ticks in a second, as Linux shows them to all programs.
const TICKS: u64 = 100;

/// Processor time of all children that have ended, and of theirs.
pub(super) fn of_children() -> anyhow::Result<Duration> {
    parse(&std::fs::read_to_string("/proc/self/stat")?).context("malformed /proc/self/stat")
}

fn parse(stat: &str) -> Option<Duration> {
    // The name of the program may contain blanks and brackets.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(13)?.parse::<u64>().ok()? + fields.get(14)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}

/// The sizes of all files below a folder.
pub(super) fn bytes_below(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for path in workspace::files_below(folder)? {
        bytes += std::fs::symlink_metadata(path)?.len();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_children_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 11 12 250 150 20 0 1 0 5 6 7";
        assert_eq!(parse(stat), Some(Duration::from_secs(4)));
        assert_eq!(parse("7 (a) S 1"), None);
    }
}
