//! Starts after a crash between any two steps of the write protocol.

use edgewright_blobs::checksum::Summer;
use edgewright_blobs::testing::MemoryStore;

use super::*;
use crate::access::Open;
use crate::ports::NoReservedTags;
use crate::registry::Registry;
use crate::settings::RegistrySettings;

const CONTENT: &[u8] = b"content";

async fn open(folder: &std::path::Path, store: &MemoryStore) -> Registry {
    let (resolver, authorizer) = (Arc::new(NoReservedTags), Arc::new(Open::new(None)));
    let settings = RegistrySettings::new(folder);
    Registry::open_with(settings, Arc::new(store.clone()), resolver, authorizer).await.unwrap()
}

/// Steps of the protocol after which the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Until {
    Begun,
    Received,
    Intended,
    Synced,
    Renamed,
    Stored,
}

/// The length of an upload, if it is open.
async fn open_size(registry: &Registry, repository: &RepoName, id: &UploadId) -> Option<u64> {
    let held = registry.0.hold_upload(repository, id).await.ok()?;
    let Session::Open(writer) = &*held else { return None };
    Some(writer.size())
}

#[tokio::test]
async fn a_start_recovers_from_a_crash_after_any_step() {
    use Until::{Begun, Intended, Received, Renamed, Stored, Synced};
    let digest = Digest::of(CONTENT);
    let repository: RepoName = "a".parse().unwrap();
    for until in [Begun, Received, Intended, Synced, Renamed, Stored] {
        for power_cut in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let store = MemoryStore::default();
            let registry = open(folder.path(), &store).await;
            let (id, held) = registry.0.begin_upload(&repository).await.unwrap();
            drop(held);
            let mut upload = store.open_upload(&id).unwrap();
            let mut summer = Summer::default();
            summer.update(CONTENT);
            let intent = Intent {
                upload: id.clone(),
                repository: repository.clone(),
                digest: digest.clone(),
                size: CONTENT.len() as u64,
                checksums: summer.finish(),
            };
            if until >= Received {
                upload.append(CONTENT).unwrap();
            }
            if until >= Intended {
                registry.0.metadata.change(Change::Intend(intent.clone())).await.unwrap();
            }
            if until >= Synced {
                upload.sync().unwrap();
            }
            if until >= Renamed {
                store.publish(&id, &digest).unwrap();
            }
            if until >= Stored {
                registry.0.metadata.change(Change::StoreBlob(intent)).await.unwrap();
            }
            registry.close().await;
            if power_cut {
                store.cut_power();
            }

            let registry = open(folder.path(), &store).await;
            let what = format!("{until:?}, power cut: {power_cut}");
            let is_kept = until == Synced || (until >= Received && !power_cut);
            let has_blob = registry.has_blob(&repository, &digest).await.unwrap();
            assert_eq!(has_blob, until >= Renamed, "{what}");
            assert!(registry.0.metadata.intents().await.unwrap().is_empty(), "{what}");
            // Before its rename an upload continues at its end.
            let size = open_size(&registry, &repository, &id).await;
            let expected = if is_kept { CONTENT.len() as u64 } else { 0 };
            assert_eq!(size, (until < Renamed).then_some(expected), "{what}");
            if until >= Renamed {
                assert_eq!(store.open_uploads(), 0, "{what}");
                assert_eq!(registry.blob(&repository, &digest, 100).await.unwrap(), CONTENT, "{what}");
            }
            registry.put_blob(&repository, CONTENT.into()).await.unwrap();
            registry.close().await;
        }
    }
}
