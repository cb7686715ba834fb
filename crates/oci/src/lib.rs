//! Byte-exact OCI manifests and layers, and the one distribution client.
//!
//! | module | holds |
//! |---|---|
//! | [`media`] | media types and descriptors |
//! | [`client`] | the distribution client: verified pulls, resumable pushes, referrers |
//! | [`layer`] | one pass from an uncompressed tar to a canonical, compressed layer with its index |
//! | [`index`] | the entries of a root file system: the *directory index* of layers, merged |
//! | [`files`] | entries of a `files` step + the base's index → the tar of a layer |
//! | [`flatten`] | the layers of an image as one tar |
//! | [`image`] | config, manifest, index and artifact documents, byte-exact |
//! | [`layout`] | OCI image layouts on disk |
//!
//! All output is a function of the arguments: no clock, no host names, no environment.

#[cfg(feature = "client")]
pub mod client;
pub mod files;
pub mod flatten;
pub mod image;
pub mod index;
pub mod layer;
pub mod layout;
pub mod media;

#[cfg(feature = "client")]
pub use client::{BlobReader, Client, ClientError, Credentials, Progress};
pub use media::{Descriptor, ManifestBytes};

/// The compressor's name, version and settings: part of every key, because image bytes depend on it.
///
/// Raise it whenever the zstd library, its level or its frame settings, or the canonical form of a tar
/// changes.
pub const COMPRESSOR_VERSION: &str = "zstd-1.5.7/3/1";
