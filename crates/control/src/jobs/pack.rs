//! A context while it is packed: a temporary file and its digest.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use edgewright_model::Digest;
use edgewright_model::digest::{Algorithm, Hasher};
use tempfile::{NamedTempFile, TempPath};

/// Writes a temporary file, hashing as it goes.
pub(crate) struct Packing {
    file: BufWriter<File>,
    path: TempPath,
    hasher: Hasher,
    size: u64,
}

impl Packing {
    /// A new file in `folder`, deleted when dropped.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let (file, path) = NamedTempFile::new_in(folder)?.into_parts();
        Ok(Self { file: BufWriter::new(file), path, hasher: Hasher::new(Algorithm::Sha256), size: 0 })
    }

    /// The finished file, its digest and length in bytes.
    pub(crate) fn finish(mut self) -> io::Result<(TempPath, Digest, u64)> {
        self.file.flush()?;
        Ok((self.path, self.hasher.finish(), self.size))
    }
}

impl Write for Packing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
