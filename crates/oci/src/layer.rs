//! Layers: one pass from an uncompressed tar to a canonical, compressed blob with its index.
//!
//! ```text
//!  tar in ─▶ entries ─▶ canonical headers ─┬─▶ sha256 (diff_id)          caller's thread
//!            (tarball)   + index           └─▶ channel ─▶ zstd ─▶ sha256 ─▶ file     second thread
//! ```
//!
//! Canonical: paths without `./`, times clamped to the epoch and in whole seconds, no user and group names,
//! PAX records only for what ustar cannot hold. The same entries give the same bytes, always; see
//! [`crate::COMPRESSOR_VERSION`].

mod guard;
pub(crate) mod pax;
mod pipeline;
mod tarball;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use edgewright_model::Digest;
use jiff::Timestamp;

use crate::image::LayerRef;
use crate::index::LayerIndex;
use crate::media::{self, Descriptor};

pub use guard::{Guard, MAX_UNPACKED_BYTES, TooLarge};
pub use tarball::read_entries;

/// Why a layer cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The tar could not be read.
    #[error("cannot read the tar stream")]
    Read(#[source] std::io::Error),
    /// The tar has an entry that no image may contain.
    #[error("invalid tar entry `{path}`: {problem}")]
    Entry {
        /// Path of the entry.
        path: String,
        /// The fault.
        problem: &'static str,
    },
    /// The tar exceeds a limit that protects its readers, or has a format that images do not have.
    #[error("invalid tar: {problem}")]
    Limit {
        /// The exceeded limit.
        problem: &'static str,
    },
    /// The blob could not be written.
    #[error("cannot write the layer {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl LayerError {
    /// Whether the archive's content is the cause, so that a retry fails again.
    pub fn is_content(&self) -> bool {
        match self {
            Self::Entry { .. } | Self::Limit { .. } => true,
            Self::Read(error) => guard::is_too_large(error),
            Self::Write { .. } => false,
        }
    }
}

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to [`Entry::link`].
    Link,
    /// A hard link to the earlier entry [`Entry::link`].
    HardLink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
}

/// One decoded entry of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path without leading `/` or `./` and without trailing `/`; empty for the root itself.
    pub path: Vec<u8>,
    /// Its kind.
    pub kind: Kind,
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// Numeric owner.
    pub user: u64,
    /// Numeric group.
    pub group: u64,
    /// Modification time in seconds since 1970.
    pub time: u64,
    /// Content length in bytes; 0 except for files.
    pub size: u64,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl Entry {
    /// An entry owned by root, without content.
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            mode,
            user: 0,
            group: 0,
            time: 0,
            size: 0,
            link: Vec::new(),
            device: (0, 0),
            xattrs: BTreeMap::new(),
        }
    }
}

/// A finished layer on disk.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The compressed file.
    pub path: PathBuf,
    /// Digest of the compressed file.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Its length in bytes.
    pub uncompressed_size: u64,
    /// Its index.
    pub index: LayerIndex,
}

impl Layer {
    /// Its reference for image documents.
    pub fn reference(&self) -> LayerRef {
        LayerRef {
            descriptor: Descriptor::new(media::LAYER_ZSTD, self.digest.clone(), self.size),
            diff_id: self.diff_id.clone(),
        }
    }
}

/// Writes one layer, entry by entry. Blocking.
#[derive(Debug)]
pub struct LayerWriter {
    pipeline: pipeline::Pipeline,
    index: LayerIndex,
    /// Upper bound of all times, in seconds since 1970.
    epoch: u64,
}

impl LayerWriter {
    /// Starts a layer in a new file at `path`; times later than `epoch` become `epoch`.
    pub fn create(path: &Path, epoch: Timestamp) -> Result<Self, LayerError> {
        let epoch = u64::try_from(epoch.as_second()).unwrap_or(0);
        Ok(Self { pipeline: pipeline::Pipeline::start(path)?, index: LayerIndex::default(), epoch })
    }

    /// Adds an entry with `entry.size` bytes of content.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), LayerError> {
        let mut entry = entry.clone();
        entry.time = entry.time.min(self.epoch);
        if entry.kind != Kind::File {
            entry.size = 0;
        }
        self.index.record(&entry);
        self.pipeline.write(&pax::header(&entry))?;
        self.pipeline.copy(content, entry.size)
    }

    /// Adds all entries of a tar.
    pub fn append_tar(&mut self, tar: impl Read) -> Result<(), LayerError> {
        read_entries(tar, |entry, content| self.append(&entry, content))
    }

    /// Finishes the layer: digests, sizes and index are known only now.
    pub fn finish(mut self) -> Result<Layer, LayerError> {
        self.pipeline.write(&[0; 1024])?;
        let done = self.pipeline.finish()?;
        Ok(Layer {
            path: done.path,
            digest: done.digest,
            size: done.size,
            diff_id: done.diff_id,
            uncompressed_size: done.uncompressed_size,
            index: self.index,
        })
    }
}

/// Writes a layer from a whole tar. Blocking.
pub fn write_tar(tar: impl Read, path: &Path, epoch: Timestamp) -> Result<Layer, LayerError> {
    let mut writer = LayerWriter::create(path, epoch)?;
    writer.append_tar(tar)?;
    writer.finish()
}

/// Decompresses a layer blob, by its media type.
pub fn decompress<'a>(
    blob: impl Read + Send + 'a,
    media_type: &str,
) -> Result<Box<dyn Read + Send + 'a>, LayerError> {
    if media_type.ends_with("+zstd") {
        Ok(Box::new(zstd::stream::read::Decoder::new(blob).map_err(LayerError::Read)?))
    } else if media_type.ends_with("gzip") {
        Ok(Box::new(flate2::read::MultiGzDecoder::new(blob)))
    } else {
        Ok(Box::new(blob))
    }
}

#[cfg(test)]
mod tests;
