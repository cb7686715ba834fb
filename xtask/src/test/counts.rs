//! Results, read from what the test runners print.

use std::ops::AddAssign;

/// Numbers of tests by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Counts {
    /// The closing line of a test binary, or of nextest.
    pub(super) fn in_line(line: &str) -> Option<Self> {
        of_libtest(line).or_else(|| of_nextest(line))
    }

    /// Counts tests that ended at once because the machine has not what they need: they are passed for the
    /// runner.
    pub(super) fn with_skipped(mut self, count: u64) -> Self {
        let count = count.min(self.passed);
        self.passed -= count;
        self.skipped += count;
        self
    }
}

fn of_libtest(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let before = rest.split_once(&format!(" {word};"))?.0;
        before.rsplit(' ').next()?.parse().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
}

/// `Summary [   1.2s] 12 tests run: 10 passed (1 slow, 1 leaky), 1 failed, 1 timed out, 2 skipped`.
fn of_nextest(line: &str) -> Option<Counts> {
    let (head, mut results) = line.trim_start().strip_prefix("Summary [")?.split_once(" run: ")?;
    let mut counts = Counts::default();
    if !head.ends_with("tests") && !head.ends_with("test") {
        return None;
    }
    while !results.is_empty() {
        let (number, rest) = results.split_once(' ')?;
        let end = rest.find([',', '(']).unwrap_or(rest.len());
        let count: u64 = number.parse().ok()?;
        match rest[..end].trim() {
            "passed" => counts.passed += count,
            "skipped" => counts.skipped += count,
            _ => counts.failed += count,
        }
        let rest = rest[end..].split_once(')').map_or(&rest[end..], |(inside, after)| {
            if inside.starts_with('(') { after } else { &rest[end..] }
        });
        results = rest.trim_start_matches([',', ' ']);
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted_and_nothing_else() {
        for (line, passed, failed, skipped) in [
            (
                "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.1s",
                12,
                3,
                1,
            ),
            ("     Summary [   1.234s] 12 tests run: 12 passed, 2 skipped", 12, 0, 2),
            ("     Summary [   1.234s] 1 test run: 1 passed (1 slow), 0 skipped", 1, 0, 0),
            (
                "     Summary [  10.0s] 12/14 tests run: 9 passed (1 slow, 1 leaky), 2 failed (1 due to signal), 1 timed out, 4 skipped",
                9,
                3,
                4,
            ),
        ] {
            assert_eq!(Counts::in_line(line), Some(Counts { passed, failed, skipped }), "{line}");
        }
        for other in [
            "",
            "test result: ok.",
            "test a ... ok",
            "running 3 tests",
            " test result: ok. 1 passed;",
            "Summary [ 1s] no tests",
            "    Starting 3 tests across 2 binaries (run ID: 1, nextest profile: ci)",
        ] {
            assert_eq!(Counts::in_line(other), None, "{other}");
        }
    }

    #[test]
    fn skipped_tests_are_not_passed() {
        let counts = Counts { passed: 3, failed: 1, skipped: 0 };
        assert_eq!(counts.with_skipped(2), Counts { passed: 1, failed: 1, skipped: 2 });
    }
}
