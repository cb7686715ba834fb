//! Lines of a log, each cut at a limit: a container may print one line that never ends.

use std::io;

use futures::io::{AsyncBufRead, AsyncBufReadExt as _};
use futures::{Stream, stream};

/// The longest line that is passed on, in bytes. Frames are shorter.
const LINE: usize = 64 * 1024;

/// The lines of a reader, without their ends.
pub(crate) fn lines(
    reader: impl AsyncBufRead + Send + 'static,
) -> impl Stream<Item = io::Result<Vec<u8>>> + Send {
    stream::try_unfold(Box::pin(reader), async |mut reader| {
        let mut line = Vec::new();
        loop {
            let buffer = reader.fill_buf().await?;
            if buffer.is_empty() {
                return Ok((!line.is_empty()).then_some((line, reader)));
            }
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let (part, used) = end.map_or((buffer, buffer.len()), |end| (&buffer[..end], end + 1));
            let room = LINE.saturating_sub(line.len()).min(part.len());
            line.extend_from_slice(&part[..room]);
            reader.as_mut().consume(used);
            if end.is_some() {
                return Ok(Some((line, reader)));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;
    use futures::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn long_lines_are_cut_and_the_next_one_is_whole() {
        let text = format!("one\n\n{}\nthree", "x".repeat(3 * LINE));
        let read: Vec<_> = lines(Cursor::new(text.into_bytes())).try_collect().await.unwrap();
        let lengths: Vec<_> = read.iter().map(Vec::len).collect();
        assert_eq!(lengths, [3, 0, LINE, 5]);
    }
}
