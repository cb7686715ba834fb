//! The BlobStore port and its file adapter.
