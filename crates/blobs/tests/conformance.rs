//! Both adapters pass the port's suite.

use edgewright_blobs::FileStore;
use edgewright_blobs::testing::{MemoryStore, blob_store_suite};

#[test]
fn the_file_store_passes() {
    let folder = tempfile::tempdir().unwrap();
    blob_store_suite(&FileStore::open(&folder.path().join("deep/er")).unwrap());
}

#[test]
fn the_memory_store_passes() {
    blob_store_suite(&MemoryStore::default());
}
