//! Archives in the form that the kernel unpacks at its start (`cpio`, `newc`). Several may follow each other.

use std::io::{self, Read, Write};

/// The size to which archives are padded, in bytes.
const ALIGNMENT: usize = 512;

/// Writes an archive.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    next: u32,
}

impl Archive {
    /// An archive without entries.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), next: 1 }
    }

    /// A folder that everyone may read.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, 0o040_755, (0, 0), &[]);
    }

    /// A small file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, 0o100_000 | (mode & 0o7777), (0, 0), content);
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, 0o120_777, (0, 0), target.as_bytes());
    }

    pub(crate) fn character_device(&mut self, path: &str, device: (u32, u32)) {
        self.entry(path, 0o020_600, device, &[]);
    }

    /// Writes all entries so far, and a large file from a stream behind them.
    ///
    /// # Errors
    /// The stream is shorter, or longer than the format permits, or a stream fails.
    pub fn stream(&mut self, to: &mut impl Write, path: &str, from: impl Read, bytes: u64) -> io::Result<()> {
        let too_large = |_| io::Error::other(format!("{path} has 4 GiB or more"));
        let length = u32::try_from(bytes).map_err(too_large)?;
        let inode = self.next;
        self.next += 1;
        self.header(path.trim_start_matches('/'), [inode, 0o100_600, 0, 0, 1, 0, length, 0, 0, 0, 0], &[]);
        to.write_all(&self.bytes)?;
        self.bytes.clear();
        if io::copy(&mut from.take(bytes), to)? != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&[0; 3][..(4 - length as usize % 4) % 4])
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        let path = path.trim_start_matches('/');
        let inode = self.next;
        self.next += 1;
        self.header(path, [inode, mode, 0, 0, 1, 0, length(content), 0, 0, device.0, device.1], content);
    }

    fn header(&mut self, path: &str, fields: [u32; 11], content: &[u8]) {
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        let name = length(path.as_bytes()) + 1;
        self.bytes.extend_from_slice(format!("{name:08X}{:08X}", 0).as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad(4);
        self.bytes.extend_from_slice(content);
        self.pad(4);
    }

    fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.header("TRAILER!!!", [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], &[]);
        self.pad(ALIGNMENT);
        self.bytes
    }
}

/// Contents are programs and modules: far below the format's 4 GiB.
fn length(content: &[u8]) -> u32 {
    u32::try_from(content.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_streamed() {
        let (mut whole, mut streamed, mut out) = (Archive::new(), Archive::new(), Vec::new());
        for archive in [&mut whole, &mut streamed] {
            archive.folder("a");
        }
        whole.file("a/b", 0o600, b"12345");
        streamed.stream(&mut out, "/a/b", &b"12345"[..], 5).unwrap();
        for archive in [&mut whole, &mut streamed] {
            archive.link("c", "a");
        }
        // The end is padded, which the streamed part does not know.
        out.extend(streamed.finish());
        let whole = whole.finish();
        assert_eq!(&out[..whole.len().min(out.len())], &whole[..whole.len().min(out.len())]);
        let short = Archive::new().stream(&mut Vec::new(), "x", &b"1"[..], 5);
        assert_eq!(short.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(Archive::new().stream(&mut Vec::new(), "x", io::empty(), 5 << 30).is_err());
    }

    #[test]
    fn entries_are_aligned_and_the_end_is_marked() {
        let mut archive = Archive::new();
        archive.folder("/dev");
        archive.file("init", 0o755, b"abc");
        archive.link("run", "/x");
        archive.character_device("dev/console", (5, 1));
        let bytes = archive.finish();
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("07070100000001000041ED"), "{text}");
        // Header, name with its end, padding, content.
        assert!(text.contains("00000005000000000000init\0") || text.contains("init\0\0abc\0"), "{text}");
        assert!(text.contains("TRAILER!!!"));
        let positions: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(positions.len(), 5);
        assert!(positions.iter().all(|at| at % 4 == 0));
    }
}
