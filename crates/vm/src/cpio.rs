//! Archives in the form that the kernel unpacks at its start (`cpio`, `newc`). Several may follow each other.

/// The size to which archives are padded, in bytes.
const ALIGNMENT: usize = 512;

/// Writes an archive.
#[derive(Debug)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    next: u32,
}

impl Archive {
    pub(crate) const fn new() -> Self {
        Self { bytes: Vec::new(), next: 1 }
    }

    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, 0o040_755, (0, 0), &[]);
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, 0o100_000 | (mode & 0o7777), (0, 0), content);
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.entry(path, 0o120_777, (0, 0), target.as_bytes());
    }

    pub(crate) fn character_device(&mut self, path: &str, device: (u32, u32)) {
        self.entry(path, 0o020_600, device, &[]);
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
    pub(crate) fn finish(mut self) -> Vec<u8> {
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
