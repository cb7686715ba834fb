//! The two threads of a layer: one hashes the input, the other compresses and hashes the output.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use edgewright_model::Digest;
use edgewright_model::digest::{Algorithm, Hasher};

use super::LayerError;

/// Size of a chunk in the channel, in bytes.
const CHUNK: usize = 1024 * 1024;
/// Number of chunks that may wait for the compressor.
const WAITING: usize = 4;
/// Zstandard level: part of [`crate::COMPRESSOR_VERSION`].
const LEVEL: i32 = 3;
const BLOCK: u64 = 512;

#[derive(Debug)]
pub(super) struct Pipeline {
    path: PathBuf,
    buffer: Vec<u8>,
    hasher: Hasher,
    written: u64,
    /// Dropped to signal the end to the compressor.
    chunks: Option<SyncSender<Vec<u8>>>,
    compressor: Option<JoinHandle<std::io::Result<(Digest, u64)>>>,
}

pub(super) struct Done {
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) diff_id: Digest,
    pub(super) uncompressed_size: u64,
}

impl Pipeline {
    pub(super) fn start(path: &Path) -> Result<Self, LayerError> {
        let fault = |source| LayerError::Write { path: path.to_owned(), source };
        let file = File::create(path).map_err(fault)?;
        let (sender, receiver) = sync_channel(WAITING);
        let compressor = std::thread::Builder::new()
            .name("layer-compressor".to_owned())
            .spawn(move || compress(file, &receiver))
            .map_err(fault)?;
        Ok(Self {
            path: path.to_owned(),
            buffer: Vec::with_capacity(CHUNK),
            hasher: Hasher::new(Algorithm::Sha256),
            written: 0,
            chunks: Some(sender),
            compressor: Some(compressor),
        })
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), LayerError> {
        while !bytes.is_empty() {
            let room = CHUNK - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Reads exactly `size` bytes and pads them to a full block.
    pub(super) fn copy(&mut self, content: &mut dyn Read, size: u64) -> Result<(), LayerError> {
        let mut left = size;
        while left > 0 {
            let room = CHUNK - self.buffer.len();
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(room);
            let start = self.buffer.len();
            self.buffer.resize(start + want, 0);
            content.read_exact(&mut self.buffer[start..]).map_err(LayerError::Read)?;
            left -= want as u64;
            if self.buffer.len() == CHUNK {
                self.flush()?;
            }
        }
        let padding = (BLOCK - size % BLOCK) % BLOCK;
        // Less than a block.
        self.write(&[0; 512][..usize::try_from(padding).unwrap_or(0)])
    }

    pub(super) fn finish(mut self) -> Result<Done, LayerError> {
        self.flush()?;
        self.chunks = None;
        let (digest, size) = self.join()?;
        Ok(Done {
            path: self.path,
            digest,
            size,
            diff_id: self.hasher.finish(),
            uncompressed_size: self.written,
        })
    }

    fn flush(&mut self) -> Result<(), LayerError> {
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.written += chunk.len() as u64;
        let chunks = self.chunks.as_ref().map(|chunks| {
            self.hasher.update(&chunk);
            chunks.send(chunk)
        });
        match chunks {
            Some(Ok(())) => Ok(()),
            // The compressor ended early: it returns the error.
            Some(Err(_)) | None => {
                self.join().and_then(|_| self.fault(std::io::ErrorKind::BrokenPipe.into()))
            }
        }
    }

    fn join(&mut self) -> Result<(Digest, u64), LayerError> {
        match self.compressor.take().map(JoinHandle::join) {
            Some(Ok(Ok(result))) => Ok(result),
            Some(Ok(Err(source))) => self.fault(source),
            Some(Err(_)) | None => self.fault(std::io::Error::other("the compressor ended without a result")),
        }
    }

    fn fault<T>(&self, source: std::io::Error) -> Result<T, LayerError> {
        Err(LayerError::Write { path: self.path.clone(), source })
    }
}

fn compress(file: File, chunks: &Receiver<Vec<u8>>) -> std::io::Result<(Digest, u64)> {
    let counted = Counted { file, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
    // One thread, no content size, no checksum: nothing in the frame depends on how the bytes arrive.
    let mut encoder = zstd::stream::write::Encoder::new(counted, LEVEL)?;
    for chunk in chunks {
        encoder.write_all(&chunk)?;
    }
    let counted = encoder.finish()?;
    Ok((counted.hasher.finish(), counted.size))
}

struct Counted {
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
