//! The `BlobStore` port: bytes by digest, and uploads that become such. Files by default.
//!
//! A store knows no metadata: *whether* a blob is visible is decided by the registry's rows. The write protocol that
//! both keep together:
//!
//! ```text
//!  intent row ─▶ upload file synced ─▶ renamed to its digest ─▶ directory synced ─▶ blob row ─▶ acknowledged
//!                └ UploadFile::sync    └──────── BlobStore::publish ────────┘
//! ```
//!
//! The port blocks: callers in async code come from blocking threads. [`checksum`] has the chunk checksums that are
//! made at write and compared at every read.

pub mod checksum;
mod files;
mod port;
#[cfg(feature = "testing")]
pub mod testing;

pub use files::FileStore;
pub use port::{BlobError, BlobFile, BlobStore, DiskUsage, UploadFile, UploadId};
