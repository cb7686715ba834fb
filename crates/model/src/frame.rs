//! Records in a log that others write to, too: a Pod's log, a serial console.
//!
//! ```text
//! ew1 17 w 3f9a02bc {"event":"log","line":"…"}
//!     │  │ │        └ the record, or a part of it
//!     │  │ └ checksum of number, kind and payload
//!     │  └ w: whole, or the f(irst), a m(iddle) or the l(ast) part
//!     └ number of the frame, from 0
//! ```
//!
//! A reader that reads the log again from its beginning skips the numbers that it has seen. Other lines, and
//! frames that another writer damaged, are text. Parts are short, so that one `write` writes a line whole
//! into a pipe that is shared.

use crate::digest::Digest;

/// The first word of a frame.
const MARK: &str = "ew1 ";
/// The longest payload of a frame, in bytes: a frame with its line ends is below `PIPE_BUF` (4096).
const PART: usize = 3800;
/// The longest record, in bytes: an outcome with its verdicts.
const RECORD: usize = 64 * 1024 * 1024;

/// Writes records as frames.
#[derive(Debug, Clone, Default)]
pub struct Framer {
    next: u64,
}

impl Framer {
    /// The lines of a record, without their ends. A record has no line ends.
    pub fn lines(&mut self, record: &str) -> Vec<String> {
        let mut parts = Vec::new();
        let mut rest = record;
        while rest.len() > PART {
            let (part, after) = rest.split_at(rest.floor_char_boundary(PART));
            parts.push(part);
            rest = after;
        }
        parts.push(rest);
        let last = parts.len() - 1;
        let kind = |index| match index {
            _ if last == 0 => 'w',
            0 => 'f',
            index if index == last => 'l',
            _ => 'm',
        };
        parts.iter().enumerate().map(|(index, part)| self.line(kind(index), part)).collect()
    }

    fn line(&mut self, kind: char, payload: &str) -> String {
        let number = self.next;
        self.next += 1;
        format!("{MARK}{number} {kind} {} {payload}", checksum(number, kind, payload))
    }
}

/// What a line of a log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogLine<'l> {
    /// The end of a record: here it is.
    Record(String),
    /// A frame that is a part of a record, or was read before.
    Frame,
    /// Text of another writer.
    Text(&'l str),
}

/// Reads records from a log, however often the log is read from its beginning.
#[derive(Debug, Clone, Default)]
pub struct Deframer {
    next: u64,
    /// The record so far, between its first and its last part.
    parts: Option<String>,
}

impl Deframer {
    /// Takes a line, without its end.
    pub fn line<'l>(&mut self, line: &'l str) -> LogLine<'l> {
        let Some(frame) = Frame::find(line) else { return LogLine::Text(line) };
        if frame.number < self.next {
            return LogLine::Frame;
        }
        if frame.number > self.next {
            // Frames in between are lost: with them the record that they belong to.
            self.parts = None;
        }
        self.next = frame.number + 1;
        match (frame.kind, self.parts.take()) {
            ('w', _) => return LogLine::Record(frame.payload.to_owned()),
            ('f', _) => self.parts = Some(frame.payload.to_owned()),
            (kind, Some(mut parts)) if parts.len() + frame.payload.len() <= RECORD => {
                parts.push_str(frame.payload);
                if kind == 'l' {
                    return LogLine::Record(parts);
                }
                self.parts = Some(parts);
            }
            _ => {}
        }
        LogLine::Frame
    }
}

struct Frame<'l> {
    number: u64,
    kind: char,
    payload: &'l str,
}

impl<'l> Frame<'l> {
    /// The frame in a line. Another writer may have left a line without its end before it.
    fn find(line: &'l str) -> Option<Self> {
        let line = line.trim_end_matches('\r');
        line.match_indices(MARK).find_map(|(at, _)| Self::parse(&line[at + MARK.len()..]))
    }

    fn parse(text: &'l str) -> Option<Self> {
        let mut words = text.splitn(4, ' ');
        let number = words.next()?.parse().ok()?;
        let mut kinds = words.next()?.chars();
        let kind = kinds.next().filter(|kind| matches!(kind, 'w' | 'f' | 'm' | 'l'))?;
        let (sum, payload) = (words.next()?, words.next()?);
        let is_whole = kinds.next().is_none() && sum == checksum(number, kind, payload);
        // The last number would leave no next one.
        (is_whole && number < u64::MAX).then_some(Self { number, kind, payload })
    }
}

fn checksum(number: u64, kind: char, payload: &str) -> String {
    let digest = Digest::of(format!("{number} {kind} {payload}"));
    digest.hex().chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records(deframer: &mut Deframer, lines: &[String]) -> Vec<String> {
        let record = |line: &String| match deframer.line(line) {
            LogLine::Record(record) => Some(record),
            LogLine::Frame | LogLine::Text(_) => None,
        };
        lines.iter().filter_map(record).collect()
    }

    #[test]
    fn a_frame_is_readable() {
        let mut framer = Framer::default();
        assert_eq!(framer.lines("{}"), ["ew1 0 w 0d36099d {}"]);
        assert_eq!(framer.lines("").len(), 1);
        let long = framer.lines(&"é".repeat(PART + 1));
        assert!(long.len() == 3 && long.iter().all(|line| line.len() < 4000));
        let kinds: Vec<_> = long.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert_eq!(kinds, ["f", "m", "l"]);
    }

    #[test]
    fn other_text_is_text() {
        let mut deframer = Deframer::default();
        let frame = Framer::default().lines("{\"a\":1}").remove(0);
        assert_eq!(deframer.line("ew1 0 w 00000000 {}"), LogLine::Text("ew1 0 w 00000000 {}"));
        assert_eq!(deframer.line("ew1 of something"), LogLine::Text("ew1 of something"));
        // A console that wrote no line end, and a serial line.
        let dirty = format!("[  OK  ] ew1 Started{frame}\r");
        assert_eq!(deframer.line(&dirty), LogLine::Record("{\"a\":1}".to_owned()));
        assert_eq!(deframer.line(&frame), LogLine::Frame, "it was read before");
    }

    #[test]
    fn a_record_with_a_lost_part_is_lost_and_no_other() {
        let mut framer = Framer::default();
        let mut lines = framer.lines(&"x".repeat(3 * PART));
        lines.remove(1);
        lines.extend(framer.lines("after"));
        assert_eq!(records(&mut Deframer::default(), &lines), ["after"]);
    }

    proptest! {
        #[test]
        fn every_record_arrives_once_however_the_log_is_read(
            wanted in proptest::collection::vec("[^\r\n]{0,40}|[a-z]{3700,9000}", 0..12),
            noise in proptest::collection::vec("[^\r\n]{0,30}", 0..12),
            stops in proptest::collection::vec(0..60_usize, 0..4),
        ) {
            let mut framer = Framer::default();
            let mut lines: Vec<String> = Vec::new();
            for (index, record) in wanted.iter().enumerate() {
                lines.extend(noise.get(index).cloned());
                lines.extend(framer.lines(record));
            }
            let mut deframer = Deframer::default();
            let mut got = Vec::new();
            for stop in stops {
                got.extend(records(&mut deframer, &lines[..stop.min(lines.len())]));
            }
            got.extend(records(&mut deframer, &lines));
            prop_assert_eq!(got, wanted);
        }

        #[test]
        fn a_damaged_frame_is_never_a_record(
            record in "[ -~]{1,60}", at in 0..60_usize, with in "[ -~]",
        ) {
            let line = Framer::default().lines(&record).remove(0);
            let at = at % line.len();
            let damaged = format!("{}{with}{}", &line[..at], &line[at + 1..]);
            prop_assume!(damaged != line);
            let read = Deframer::default().line(&damaged).clone();
            prop_assert!(!matches!(read, LogLine::Record(_)), "{:?}", read);
        }

        #[test]
        fn no_line_is_too_odd(line in "\\PC*", frame in "ew1 [0-9]{0,22} [wfml]? ?[0-9a-f]{0,9} .*") {
            let mut deframer = Deframer::default();
            deframer.line(&line);
            deframer.line(&frame);
        }
    }
}
