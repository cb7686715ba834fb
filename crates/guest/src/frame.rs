//! The messages between host and guest: binary frames on a virtio port.
//!
//! ```text
//! kind (1) │ session (4, little endian) │ length (4, little endian) │ content
//! ```
//!
//! A session is one program. Both ends treat the other as hostile: lengths are bounded, unknown kinds are
//! errors.

use std::io::{self, Read, Write};

/// Maximum content of a frame, in bytes.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Maximum number of words of a command.
pub const MAX_WORDS: usize = 4096;
const HEADER: usize = 9;
/// A ping reads `PING!`: firmware may have swallowed a part of one, and no other frame begins like the rest
/// of it.
const PING: u8 = b'P';
/// The other kinds are 1 to this.
const LAST_KIND: u8 = 10;
const PING_SESSION: u32 = u32::from_le_bytes(*b"ING!");

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To the guest: answer. The guest ends the sessions of an earlier connection.
    Ping,
    /// From the guest: it listens.
    Hello,
    /// To the guest: start a program.
    Start(u32, Program),
    /// To the guest: bytes for standard input.
    Input(u32, Vec<u8>),
    /// To the guest: standard input ends.
    InputEnds(u32),
    /// To the guest: the size of the terminal.
    Resize(u32, Size),
    /// To the guest: kill the program.
    Kill(u32),
    /// From the guest: bytes of standard output.
    Output(u32, Vec<u8>),
    /// From the guest: bytes of standard error.
    Errors(u32, Vec<u8>),
    /// From the guest: the program's exit code; a signal gives 128 + its number.
    Ended(u32, i32),
    /// From the guest: it cannot start the program.
    Failed(u32, String),
}

/// A program to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments, at least one word without NUL.
    pub words: Vec<String>,
    /// The size of its terminal; none: it has pipes.
    pub terminal: Option<Size>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Why a frame is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// Its content is too long.
    #[error("a frame of {0} bytes")]
    Length(usize),
    /// Its kind is unknown, or its content is not of its kind.
    #[error("a malformed frame of kind {0}")]
    Kind(u8),
}

impl Size {
    fn bytes(self) -> [u8; 4] {
        let [a, b] = self.rows.to_le_bytes();
        let [c, d] = self.columns.to_le_bytes();
        [a, b, c, d]
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, d] = *bytes.first_chunk::<4>()?;
        Some(Self { rows: u16::from_le_bytes([a, b]), columns: u16::from_le_bytes([c, d]) })
    }
}

impl Program {
    /// A program with pipes.
    pub fn new(words: impl IntoIterator<Item: Into<String>>) -> Self {
        Self { words: words.into_iter().map(Into::into).collect(), terminal: None }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.terminal.is_some())];
        bytes.extend_from_slice(&self.terminal.unwrap_or(Size { rows: 0, columns: 0 }).bytes());
        bytes.extend_from_slice(self.words.join("\0").as_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (flag, rest) = bytes.split_first()?;
        let size = Size::parse(rest)?;
        let text = std::str::from_utf8(rest.get(4..)?).ok()?;
        let words: Vec<String> = text.split('\0').map(str::to_owned).collect();
        let is_valid = words.len() <= MAX_WORDS && words.first().is_some_and(|word| !word.is_empty());
        is_valid.then_some(Self { words, terminal: (*flag != 0).then_some(size) })
    }
}

impl Frame {
    /// Its bytes. A content that is too long is cut: senders split theirs.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, session, content) = match self {
            Self::Ping => (PING, PING_SESSION, Vec::new()),
            Self::Hello => (1, 0, Vec::new()),
            Self::Start(session, program) => (2, *session, program.bytes()),
            Self::Input(session, bytes) => (3, *session, bytes.clone()),
            Self::InputEnds(session) => (4, *session, Vec::new()),
            Self::Resize(session, size) => (5, *session, size.bytes().to_vec()),
            Self::Kill(session) => (6, *session, Vec::new()),
            Self::Output(session, bytes) => (7, *session, bytes.clone()),
            Self::Errors(session, bytes) => (8, *session, bytes.clone()),
            Self::Ended(session, code) => (9, *session, code.to_le_bytes().to_vec()),
            Self::Failed(session, text) => (10, *session, text.as_bytes().to_vec()),
        };
        let content = &content[..content.len().min(MAX_FRAME_BYTES)];
        let mut bytes = Vec::with_capacity(HEADER + content.len());
        bytes.push(kind);
        bytes.extend_from_slice(&session.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(content.len()).unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(content);
        bytes
    }

    fn decode(kind: u8, session: u32, content: &[u8]) -> Option<Self> {
        let text = || String::from_utf8_lossy(content).into_owned();
        Some(match kind {
            PING if session == PING_SESSION => Self::Ping,
            1 => Self::Hello,
            2 => Self::Start(session, Program::parse(content)?),
            3 => Self::Input(session, content.to_vec()),
            4 => Self::InputEnds(session),
            5 => Self::Resize(session, Size::parse(content)?),
            6 => Self::Kill(session),
            7 => Self::Output(session, content.to_vec()),
            8 => Self::Errors(session, content.to_vec()),
            9 => Self::Ended(session, i32::from_le_bytes(*content.first_chunk::<4>()?)),
            10 => Self::Failed(session, text()),
            _ => return None,
        })
    }

    /// Writes it in one piece.
    ///
    /// # Errors
    /// The other end is gone.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.encode())
    }
}

/// Splits bytes into frames, however they arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Adds bytes that arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; none until more bytes arrive.
    ///
    /// # Errors
    /// What arrived is no frame. The connection cannot be used any more.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, InvalidFrame> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
        let (kind, numbers) = (header[0], &header[1..]);
        let number =
            |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| (number << 8) | u32::from(*byte));
        let session = number(&numbers[..4]);
        let length = usize::try_from(number(&numbers[4..])).unwrap_or(usize::MAX);
        if !(1..=LAST_KIND).contains(&kind) && (kind, session) != (PING, PING_SESSION) {
            return Err(InvalidFrame::Kind(kind));
        }
        if length > MAX_FRAME_BYTES {
            return Err(InvalidFrame::Length(length));
        }
        let Some(content) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(kind, session, content).ok_or(InvalidFrame::Kind(kind))?;
        self.buffer.drain(..HEADER + length);
        Ok(Some(frame))
    }

    /// Reads from a blocking stream until a frame is whole; none at its end. Bytes that begin no frame are
    /// skipped.
    ///
    /// # Errors
    /// The stream fails.
    pub fn read(&mut self, stream: &mut impl Read) -> io::Result<Option<Frame>> {
        let mut chunk = vec![0; MAX_FRAME_BYTES];
        loop {
            match self.next_frame() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(_) => {
                    self.buffer.remove(0);
                    continue;
                }
            }
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(count) => self.feed(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> Vec<Frame> {
        let size = Size { rows: 24, columns: 300 };
        vec![
            Frame::Ping,
            Frame::Hello,
            Frame::Start(7, Program::new(["/bin/echo", "a b", ""])),
            Frame::Start(8, Program { words: vec!["sh".to_owned()], terminal: Some(size) }),
            Frame::Input(7, vec![0, 255]),
            Frame::InputEnds(7),
            Frame::Resize(8, size),
            Frame::Kill(8),
            Frame::Output(7, Vec::new()),
            Frame::Errors(u32::MAX, vec![1; MAX_FRAME_BYTES]),
            Frame::Ended(7, -1),
            Frame::Failed(7, "not found".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_any_way_of_arriving(cuts in proptest::collection::vec(1_usize..5000, 0..40)) {
            let bytes: Vec<u8> = frames().iter().flat_map(Frame::encode).collect();
            let (mut decoder, mut found, mut rest) = (Decoder::default(), Vec::new(), bytes.as_slice());
            for cut in cuts.into_iter().chain(std::iter::repeat(usize::MAX)) {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at(cut.min(rest.len()));
                decoder.feed(now);
                rest = later;
                while let Some(frame) = decoder.next_frame().unwrap() {
                    found.push(frame);
                }
            }
            prop_assert_eq!(found, frames());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    #[test]
    fn the_rest_of_a_ping_is_skipped() {
        let (ping, start) = (Frame::Ping.encode(), Frame::Start(1, Program::new(["sh"])));
        for lost in 1..ping.len() {
            let bytes = [&ping[lost..], &ping, &start.encode()].concat();
            let (mut decoder, mut stream) = (Decoder::default(), bytes.as_slice());
            assert_eq!(decoder.read(&mut stream).unwrap(), Some(Frame::Ping), "{lost}");
            assert_eq!(decoder.read(&mut stream).unwrap(), Some(start.clone()), "{lost}");
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        let decode = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.feed(bytes);
            decoder.next_frame()
        };
        assert_eq!(decode(&[0; 8]), Ok(None));
        assert_eq!(decode(&[77, 0, 0, 0, 0, 0, 0, 0, 0]), Err(InvalidFrame::Kind(77)));
        assert_eq!(decode(&[7, 0, 0, 0, 0, 0, 0, 2, 0]), Err(InvalidFrame::Length(131_072)));
        // A program without a name.
        assert_eq!(decode(&[2, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]), Err(InvalidFrame::Kind(2)));
    }
}
