//! Lines of the bytes that a program in the guest writes, in bounded memory.

use edgewright_process::Stream;

use crate::machine::OnLine;

/// The longest line, in bytes: that of a result includes the last lines of output. The rest is dropped.
const MAX_LINE_BYTES: usize = 256 * 1024;

/// Collects bytes of both streams into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines {
    /// Adds bytes; passes on the lines that end in them.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8], on_line: OnLine<'_>) {
        let buffer = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE_BYTES.saturating_sub(buffer.len());
            buffer.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                pass(stream, buffer, on_line);
            }
        }
    }

    /// Passes on what has no line end.
    pub(super) fn finish(mut self, on_line: OnLine<'_>) {
        pass(Stream::Stdout, &mut self.stdout, on_line);
        pass(Stream::Stderr, &mut self.stderr, on_line);
    }
}

fn pass(stream: Stream, buffer: &mut Vec<u8>, on_line: OnLine<'_>) {
    let text = String::from_utf8_lossy(buffer);
    let line = text.trim_end_matches(['\n', '\r']);
    if !line.is_empty() {
        on_line(stream, line);
    }
    buffer.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_bounded() {
        let mut found = Vec::new();
        let mut on_line = |stream: Stream, line: &str| found.push((stream, line.to_owned()));
        let mut lines = Lines::default();
        lines.push(Stream::Stdout, b"on", &mut on_line);
        lines.push(Stream::Stderr, b"err\n", &mut on_line);
        lines.push(Stream::Stdout, b"e\r\n\ntwo\nthr", &mut on_line);
        lines.push(Stream::Stdout, &vec![b'x'; 2 * MAX_LINE_BYTES], &mut on_line);
        lines.finish(&mut on_line);
        let short: Vec<(Stream, &str)> =
            found.iter().map(|(stream, line)| (*stream, &line[..line.len().min(3)])).collect();
        assert_eq!(
            short,
            [
                (Stream::Stderr, "err"),
                (Stream::Stdout, "one"),
                (Stream::Stdout, "two"),
                (Stream::Stdout, "thr")
            ]
        );
        assert_eq!(found[3].1.len(), MAX_LINE_BYTES);
    }
}
