//! A tool's output, limited: lines that are passed on as events, and the tail for a failure.

use std::collections::VecDeque;

use edgewright_model::outcome::JobEvent;

use crate::context::Events;

/// Limits of one step's output in lines and bytes; further output is dropped, the step continues.
const LINE_LIMIT: usize = 20_000;
/// Bytes of one step's output that are passed on.
const BYTE_LIMIT: usize = 4 * 1024 * 1024;
/// The number of lines in a failure.
const TAIL: usize = 40;

pub(crate) struct Log<'a> {
    events: Events<'a>,
    lines: usize,
    bytes: usize,
    tail: VecDeque<String>,
    progress: Progress,
}

impl<'a> Log<'a> {
    pub(crate) const fn new(events: Events<'a>) -> Self {
        Self {
            events,
            lines: 0,
            bytes: 0,
            tail: VecDeque::new(),
            progress: Progress { shown: String::new() },
        }
    }

    pub(crate) fn line(&mut self, line: &str) {
        if self.progress.repeats(line) {
            return;
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        let was_open = self.is_open();
        self.lines += 1;
        self.bytes += line.len();
        if self.is_open() {
            (self.events)(JobEvent::Log { line: line.to_owned() });
        } else if was_open {
            let line = format!("… further output is dropped after {LINE_LIMIT} lines or {BYTE_LIMIT} bytes");
            (self.events)(JobEvent::Log { line });
        }
    }

    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    const fn is_open(&self) -> bool {
        self.lines < LINE_LIMIT && self.bytes < BYTE_LIMIT
    }
}

/// Collapses progress lines: of lines that end with a percentage and differ in their digits only, the first
/// one is kept.
struct Progress {
    /// The last progress line, without digits.
    shown: String,
}

impl Progress {
    /// Whether a line only updates the progress that the line before shows.
    fn repeats(&mut self, line: &str) -> bool {
        if !line.trim_end().ends_with('%') {
            self.shown.clear();
            return false;
        }
        let text: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
        let repeats = text == self.shown;
        self.shown = text;
        repeats
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn repeated_progress_lines_are_collapsed() {
        let mut progress = Progress { shown: String::new() };
        let lines = ["get 5%", "get 10%", "unpack 5%", "unpack 6%", "done", "unpack 7%", "50%", "60%"];
        let kept: Vec<&str> = lines.into_iter().filter(|line| !progress.repeats(line)).collect();
        assert_eq!(kept, ["get 5%", "unpack 5%", "done", "unpack 7%", "50%"]);
    }

    #[test]
    fn endless_output_is_cut_but_its_end_is_kept() {
        let seen = Mutex::new(0);
        let count = |_| *seen.lock().unwrap() += 1;
        let mut log = Log::new(&count);
        for number in 0..100_000 {
            log.line(&format!("line {number}"));
        }
        assert_eq!(log.tail().last().map(String::as_str), Some("line 99999"));
        assert_eq!(log.tail().len(), TAIL);
        assert_eq!(*seen.lock().unwrap(), LINE_LIMIT);
    }
}
