//! Lines of a stream in bounded memory.

use std::collections::VecDeque;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How many lines of standard error an error carries.
const TAIL_LINES: usize = 50;
/// A tail's lines are cut at this length, in bytes.
pub(crate) const LINE_LIMIT: usize = 4096;
/// The size of a read, in bytes: a pipe's usual capacity.
const CHUNK: usize = 64 * 1024;

/// The last lines of a stream.
#[derive(Debug, Default)]
pub(crate) struct Tail(VecDeque<String>);

impl Tail {
    pub(crate) fn push(&mut self, line: &str) {
        if self.0.len() == TAIL_LINES {
            self.0.pop_front();
        }
        self.0.push_back(cut(line, LINE_LIMIT).to_owned());
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.0.into()
    }
}

fn cut(line: &str, limit: usize) -> &str {
    &line[..line.floor_char_boundary(limit)]
}

/// Splits a stream into lines. As in a terminal, text after a `\r` replaces the text before it, so that a
/// progress bar gives one line; the rest of a line over the limit is dropped. [`LineReader::next`] may be
/// dropped at any time without losing anything.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    stream: R,
    chunk: Vec<u8>,
    at: usize,
    line: Vec<u8>,
    /// Whether the last byte was a `\r`: further text replaces the line.
    returned: bool,
    limit: usize,
    ended: bool,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(stream: R, limit: usize) -> Self {
        Self {
            stream,
            chunk: Vec::with_capacity(CHUNK),
            at: 0,
            line: Vec::new(),
            returned: false,
            limit,
            ended: false,
        }
    }

    /// The next line that is not empty, with invalid UTF-8 replaced; none at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            while self.at < self.chunk.len() {
                let rest = &self.chunk[self.at..];
                let end = rest.iter().position(|&byte| byte == b'\n' || byte == b'\r');
                let part = &rest[..end.unwrap_or(rest.len())];
                if self.returned && !part.is_empty() {
                    self.line.clear();
                }
                let room = self.limit.saturating_sub(self.line.len());
                self.line.extend_from_slice(&part[..part.len().min(room)]);
                self.returned = match end.map(|end| rest[end]) {
                    Some(b'\r') => true,
                    Some(_) => false,
                    None => self.returned && part.is_empty(),
                };
                self.at += part.len() + usize::from(end.is_some());
                if end.is_some() && !self.returned && !self.line.is_empty() {
                    return Ok(Some(self.take()));
                }
            }
            if self.ended {
                return Ok((!self.line.is_empty()).then(|| self.take()));
            }
            self.chunk.clear();
            self.at = 0;
            self.ended = self.stream.read_buf(&mut self.chunk).await? == 0;
        }
    }

    fn take(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn lines(bytes: &[u8], limit: usize) -> Vec<String> {
        let mut reader = LineReader::new(bytes, limit);
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn lines_are_split_cut_and_overwritten_by_carriage_returns() {
        assert_eq!(lines(b"a\n\nb\r\n10%\r20%\r99 files\nlast", 100).await, ["a", "b", "99 files", "last"]);
        assert_eq!(lines(b"10%\r20%\r", 100).await, ["20%"]);
        assert_eq!(lines(b"abcdef\ngh\n", 3).await, ["abc", "gh"]);
        assert_eq!(lines(b"\xff\n", 9).await, ["\u{fffd}"]);
        assert!(lines(b"", 9).await.is_empty());
    }

    #[test]
    fn the_tail_holds_the_last_lines() {
        let mut tail = Tail::default();
        for number in 0..1000 {
            tail.push(&format!("{number}{}", "ä".repeat(5000)));
        }
        let lines = tail.into_lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert!(lines[0].starts_with("950ä") && lines.iter().all(|line| line.len() <= LINE_LIMIT));
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_way(text in "[a-c\n\r]{0,300}") {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let last = |line: &str| line.split('\r').rfind(|part| !part.is_empty()).map(str::to_owned);
            let want: Vec<_> = text.split('\n').filter_map(last).collect();
            prop_assert_eq!(runtime.block_on(lines(text.as_bytes(), 1000)), want);
        }
    }
}
