//! The `BlobStore` port: blobs by digest, and uploads that become blobs. Files by default.
//!
//! A store knows no metadata: *whether* a blob is visible is decided by the registry's rows. The write
//! protocol of both:
//!
//! ```text
//!  intent row ─▶ upload file synced ─▶ renamed to its digest ─▶ directory synced ─▶ blob row ─▶ acknowledged
//!                └ UploadFile::sync    └──────── BlobStore::publish ────────┘
//! ```
//!
//! The port blocks: async code calls it on blocking threads. [`checksum`] has the chunk checksums that are
//! computed at the write and verified at every read.

pub mod checksum;
mod files;
mod port;
#[cfg(feature = "testing")]
pub mod testing;

pub use files::FileStore;
pub use port::{BlobError, BlobFile, BlobStore, DiskUsage, UploadFile, UploadId};
