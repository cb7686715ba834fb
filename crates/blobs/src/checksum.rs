//! Chunk checksums: one 64-bit XXH3 per 256 KiB, computed while a blob is written, verified whenever a part
//! of it is read.
//!
//! They detect bit rot, torn writes and truncated files at the cost of a memory scan. Tampering is detected
//! by the digest, once, at the write.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes of a chunk, the unit of reading and comparing: large enough for few calls, small enough for small
/// ranges.
pub const CHUNK: usize = 256 * 1024;

/// The checksums of a blob's chunks, the last of which may be short. An empty blob has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checksums(Vec<u64>);

impl Checksums {
    /// Reads the output of [`Self::to_bytes`] for a blob of `size` bytes; `None` if it has another length.
    pub fn from_bytes(bytes: &[u8], size: u64) -> Option<Self> {
        let (sums, rest) = bytes.as_chunks::<8>();
        let fits = rest.is_empty() && sums.len() as u64 == size.div_ceil(CHUNK as u64);
        fits.then(|| Self(sums.iter().map(|sum| u64::from_le_bytes(*sum)).collect()))
    }

    /// Eight bytes per chunk, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|sum| sum.to_le_bytes()).collect()
    }

    /// Whether `bytes` is all of chunk `index`, undamaged.
    pub fn agrees(&self, index: u64, bytes: &[u8]) -> bool {
        let sum = usize::try_from(index).ok().and_then(|index| self.0.get(index));
        sum.is_some_and(|&sum| sum == xxh3_64(bytes))
    }

    /// The size of the table in memory, in bytes.
    pub const fn weight(&self) -> usize {
        self.0.len() * 8
    }
}

/// Computes the [`Checksums`] of a stream.
#[derive(Clone)]
pub struct Summer {
    done: Vec<u64>,
    open: Xxh3,
    filled: usize,
}

impl std::fmt::Debug for Summer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Summer")
            .field("chunks", &self.done.len())
            .field("filled", &self.filled)
            .finish_non_exhaustive()
    }
}

impl Default for Summer {
    fn default() -> Self {
        Self { done: Vec::new(), open: Xxh3::new(), filled: 0 }
    }
}

impl Summer {
    /// Adds the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK - self.filled));
            self.open.update(now);
            self.filled += now.len();
            if self.filled == CHUNK {
                self.close();
            }
            bytes = rest;
        }
    }

    /// The checksums of all bytes.
    pub fn finish(mut self) -> Checksums {
        if self.filled > 0 {
            self.close();
        }
        Checksums(self.done)
    }

    fn close(&mut self) {
        self.done.push(self.open.digest());
        self.open.reset();
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_do_not_depend_on_the_pieces_and_detect_a_flipped_bit() {
        let mut bytes: Vec<u8> = (0..CHUNK * 2 + 5).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut sums = Vec::new();
        for cut in [1000, CHUNK, CHUNK * 3] {
            let mut summer = Summer::default();
            bytes.chunks(cut).for_each(|part| summer.update(part));
            sums.push(summer.finish());
        }
        assert!(sums.iter().all(|other| *other == sums[0]));
        let table = Checksums::from_bytes(&sums[0].to_bytes(), bytes.len() as u64).unwrap();
        assert_eq!(table, sums[0]);
        for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
            assert!(table.agrees(index as u64, chunk));
        }
        assert!(!table.agrees(3, b""), "there is no fourth chunk");
        bytes[CHUNK + 7] ^= 1;
        assert!(!table.agrees(1, &bytes[CHUNK..2 * CHUNK]));
        assert!(Checksums::from_bytes(&sums[0].to_bytes(), 1).is_none());
        assert_eq!(Summer::default().finish(), Checksums::from_bytes(&[], 0).unwrap());
    }
}
