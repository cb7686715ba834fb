//! Copies in external registries: requests, results, and what is remembered.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use edgewright_model::run::ReleaseNumber;
use edgewright_store::Store;
use edgewright_store::targets::CopyKey;
use jiff::Timestamp;

#[tokio::test]
async fn only_completed_copies_are_remembered_beside_the_requested_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("control.db")).await.unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let source = store.upsert_source(&"plants".parse().unwrap(), "/git/plants", now).await.unwrap().id;
    let key = |release| CopyKey {
        target: "hub".to_owned(),
        source,
        channel: "stable".parse().unwrap(),
        release: ReleaseNumber(release),
    };
    let shown = async || {
        let rows = store.copies().await.unwrap();
        let words = rows.iter().map(|row| format!("{} {} {}", row.key.release, row.state, row.failures));
        words.collect::<Vec<_>>()
    };
    store.want_copy(&key(1), "here", now).await.unwrap();
    store.note_copying(&key(1), now).await.unwrap();
    store.note_copied(&key(1), 7, now).await.unwrap();
    store.want_copy(&key(2), "here", now).await.unwrap();
    store.note_not_copied(&key(2), "no", Some("do"), now).await.unwrap();
    store.note_copying(&key(2), now).await.unwrap();
    // During a retry, the error of the last attempt is still known.
    assert_eq!(shown().await, ["2 copying 1", "1 copied 0"]);
    assert_eq!(store.copies().await.unwrap()[0].error.as_deref(), Some("no"));
    // A newer one is requested: the one that was never completed is deleted.
    store.want_copy(&key(3), "here", now).await.unwrap();
    assert_eq!(shown().await, ["3 waiting 0", "1 copied 0"]);
    // A repeated request changes nothing; another address resets all copies.
    store.note_copied(&key(3), 7, now).await.unwrap();
    store.want_copy(&key(3), "here", now).await.unwrap();
    assert_eq!(shown().await, ["3 copied 0", "1 copied 0"]);
    store.want_copy(&key(3), "there", now).await.unwrap();
    assert_eq!(shown().await, ["3 waiting 0", "1 copied 0"]);
    store.want_copy(&key(40), "there", now).await.unwrap();
    assert_eq!(shown().await, ["40 waiting 0"]);
}
