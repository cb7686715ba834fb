//! A tool's output, bounded: what is passed on as events, and the tail that a failure shows.

use std::collections::VecDeque;

use edgewright_model::outcome::JobEvent;

use crate::context::Events;

/// Lines and bytes of one step's output that are passed on; a step that prints more is cut, not stopped.
const LINE_LIMIT: usize = 20_000;
/// Bytes of one step's output that are passed on.
const BYTE_LIMIT: usize = 4 * 1024 * 1024;
/// Lines that a failure shows.
const TAIL: usize = 40;

pub(crate) struct Log<'a> {
    events: Events<'a>,
    lines: usize,
    bytes: usize,
    tail: VecDeque<String>,
}

impl<'a> Log<'a> {
    pub(crate) const fn new(events: Events<'a>) -> Self {
        Self { events, lines: 0, bytes: 0, tail: VecDeque::new() }
    }

    pub(crate) fn line(&mut self, line: &str) {
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

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
