//! What libFuzzer prints, as a table.

use std::fmt::Write as _;
use std::path::PathBuf;

/// Most lines of a crash that are shown.
const MAX_CRASH_LINES: usize = 12;

/// What came of a target.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) target: &'static str,
    /// Inputs that were run.
    pub(super) runs: u64,
    /// Places of the code that were reached: with the corpus alone, and in the end.
    pub(super) coverage: (u64, u64),
    /// Inputs that were found.
    pub(super) new: usize,
    pub(super) crash: Option<Crash>,
}

/// A crash, a timeout, or too much memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crash {
    /// The panic, or what libFuzzer reports.
    pub(super) text: String,
    /// The input, if libFuzzer wrote it.
    pub(super) input: Option<PathBuf>,
}

impl Outcome {
    /// Reads a log.
    pub(super) fn read(target: &'static str, log: &str, new: usize, is_success: bool) -> Self {
        let mut outcome = Self { target, runs: 0, coverage: (0, 0), new, crash: None };
        for line in log.lines() {
            let Some((runs, rest)) = line.strip_prefix('#').and_then(|rest| rest.split_once('\t')) else {
                continue;
            };
            let Ok(runs) = runs.parse() else { continue };
            let coverage = rest.split_once("cov: ").and_then(|(_, rest)| rest.split(' ').next());
            let Some(coverage) = coverage.and_then(|coverage| coverage.parse().ok()) else { continue };
            // Until then it read the corpus.
            if outcome.runs == 0 || rest.starts_with("INITED") {
                outcome.coverage.0 = coverage;
            }
            (outcome.runs, outcome.coverage.1) = (runs, coverage);
        }
        outcome.crash = (!is_success).then(|| Crash::read(log));
        outcome
    }
}

impl Crash {
    fn read(log: &str) -> Self {
        let is_start = |line: &&str| line.starts_with("thread '") || line.contains("ERROR: libFuzzer:");
        let is_noise = |line: &&str| line.trim_start().starts_with("stack backtrace:");
        let lines = log.lines().skip_while(|line| !is_start(line)).take_while(|line| !is_noise(line));
        let text: Vec<String> =
            lines.take(MAX_CRASH_LINES).map(|line| line.chars().take(400).collect()).collect();
        let input =
            log.lines().find_map(|line| line.split_once("Test unit written to ").map(|(_, path)| path));
        Self { text: text.join("\n"), input: input.map(PathBuf::from) }
    }
}

/// A line for each target.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut table = format!("\n{:14} {:>10} {:>16} {:>10}\n", "target", "runs", "coverage", "new inputs");
    for outcome in outcomes {
        let (first, last) = outcome.coverage;
        let coverage = format!("{first} -> {last}");
        let end = if outcome.crash.is_some() { "  FAILED" } else { "" };
        let _ = writeln!(
            table,
            "{:14} {:>10} {coverage:>16} {:>10}{end}",
            outcome.target, outcome.runs, outcome.new
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "INFO: seed corpus: files: 3\n#4\tINITED cov: 120 ft: 130 corp: 3/9b\n\
        #900\tNEW    cov: 150 ft: 200 corp: 4/12b\n";

    #[test]
    fn counts_are_read() {
        let log = format!("{LOG}#2000\tDONE   cov: 151 ft: 201 corp: 5/13b\nDone 2000 runs in 3 second(s)\n");
        let outcome = Outcome::read("tree", &log, 2, true);
        assert_eq!((outcome.runs, outcome.coverage, &outcome.crash), (2000, (120, 151), &None));
        let table = table(&[outcome]);
        assert!(table.ends_with("tree                 2000       120 -> 151          2\n"), "{table}");
    }

    #[test]
    fn crashes_are_shown_with_their_input() {
        let log = format!(
            "{LOG}\nthread '<unnamed>' panicked at fuzz/src/tree.rs:1:2:\nfound\nstack backtrace:\n   0: x\n\
             ==1== ERROR: libFuzzer: deadly signal\nartifact_prefix='/t/'; Test unit written to /t/crash-1\n"
        );
        let crash = Outcome::read("tree", &log, 0, false).crash.unwrap();
        assert_eq!(crash.text, "thread '<unnamed>' panicked at fuzz/src/tree.rs:1:2:\nfound");
        assert_eq!(crash.input, Some(PathBuf::from("/t/crash-1")));
        let timeout = "==1== ERROR: libFuzzer: timeout after 10 seconds\n";
        let crash = Outcome::read("tree", timeout, 0, false).crash.unwrap();
        assert_eq!((crash.text.as_str(), crash.input), (timeout.trim_end(), None));
    }
}
