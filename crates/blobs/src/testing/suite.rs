//! The suite that every adapter of the port must pass.

use edgewright_model::Digest;

use crate::port::{BlobStore, UploadId};

fn id(text: &str) -> UploadId {
    text.parse().expect("the suite's own ids are valid")
}

/// Runs the suite on an empty store.
///
/// # Panics
/// If the store violates the port's contract.
pub fn blob_store_suite(store: &dyn BlobStore) {
    uploads_resume_at_their_end(store);
    publishing_replaces(store);
    missing_blobs_are_reported_as_missing(store);
    let usage = store.disk_usage().expect("space can be measured");
    assert!(usage.available <= usage.total && usage.total > 0);
}

fn uploads_resume_at_their_end(store: &dyn BlobStore) {
    let mut upload = store.create_upload(&id("resume")).expect("an upload can be made");
    upload.append(b"hello ").expect("bytes can be added");
    assert_eq!(upload.size(), 6);
    drop(upload);
    let mut upload = store.open_upload(&id("resume")).expect("an upload can be opened again");
    assert_eq!(upload.size(), 6);
    upload.append(b"world").expect("bytes can be added");
    let mut buffer = [0; 16];
    assert_eq!(upload.read_at(4, &mut buffer).expect("an upload can be read"), 7);
    assert_eq!(&buffer[..7], b"o world");
    store.discard_upload(&id("resume")).expect("an upload can be dropped");
    store.discard_upload(&id("resume")).expect("dropping twice is no error");
    assert!(store.open_upload(&id("resume")).expect_err("it is gone").is_missing());
}

fn publishing_replaces(store: &dyn BlobStore) {
    let digest = Digest::of("content");
    for _ in 0..2 {
        let mut upload = store.create_upload(&id("publish")).expect("an upload can be made");
        upload.append(b"content").expect("bytes can be added");
        upload.sync().expect("bytes can be synced");
        drop(upload);
        store.publish(&id("publish"), &digest).expect("a synced upload can be published");
        assert!(store.open_upload(&id("publish")).expect_err("the upload is used up").is_missing());
        assert_eq!(store.size(&digest).expect("a blob has a size"), Some(7));
    }
    assert!(store.settle(&digest).expect("a blob can be settled"));
    let blob = store.open(&digest).expect("a blob can be opened");
    store.remove(&digest).expect("a blob can be removed");
    store.remove(&digest).expect("removing twice is no error");
    let mut buffer = [0; 16];
    assert_eq!(blob.read_at(3, &mut buffer).expect("an open blob outlives its name"), 4);
    assert_eq!(&buffer[..4], b"tent");
    assert_eq!(blob.read_at(99, &mut buffer).expect("reading after the end is empty"), 0);
}

fn missing_blobs_are_reported_as_missing(store: &dyn BlobStore) {
    let digest = Digest::of("never pushed");
    assert_eq!(store.size(&digest).expect("a missing blob has no size"), None);
    assert!(!store.settle(&digest).expect("there is nothing to settle"));
    assert!(store.open(&digest).expect_err("it is not there").is_missing());
    assert!(store.publish(&id("never-begun"), &digest).expect_err("it is not there").is_missing());
}
