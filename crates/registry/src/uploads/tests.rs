//! Starts after a crash between any two steps of the write protocol.

use edgewright_blobs::checksum::Summer;
use edgewright_blobs::testing::MemoryStore;

use super::*;
use crate::access::Open;
use crate::ports::NoReservedTags;
use crate::registry::{OWNER, Registry};
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
            let (id, held) = registry.0.begin_upload(&OWNER, &repository).await.unwrap();
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

fn operator(name: &'static str) -> edgewright_model::principal::Principal {
    edgewright_model::principal::Principal::Operator { name }
}

#[tokio::test]
async fn an_identity_has_a_share_of_uploads_and_its_idle_ones_make_room() {
    let (one, two) = (operator("one"), operator("two"));
    let repository: RepoName = "a".parse().unwrap();
    for (grace, has_room) in [(Duration::ZERO, true), (Duration::from_hours(1), false)] {
        let folder = tempfile::tempdir().unwrap();
        let store = MemoryStore::default();
        let mut settings = RegistrySettings::new(folder.path());
        (settings.max_uploads, settings.max_uploads_per_identity, settings.upload_grace) = (4, 3, grace);
        let (resolver, authorizer) = (Arc::new(NoReservedTags), Arc::new(Open::new(None)));
        let registry =
            Registry::open_with(settings, Arc::new(store.clone()), resolver, authorizer).await.unwrap();
        let begin = |who: &edgewright_model::principal::Principal| {
            let (registry, who, repository) = (registry.clone(), who.clone(), repository.clone());
            async move { registry.0.begin_upload(&who, &repository).await }
        };
        // In use: never makes room.
        let (busy, held) = begin(&one).await.unwrap();
        let idle = begin(&one).await.unwrap().0;
        let other = begin(&one).await.unwrap().0;
        let more = begin(&one).await;
        assert_eq!(more.is_ok(), has_room, "{more:?}");
        if has_room {
            assert!(registry.0.hold_upload(&repository, &idle).await.is_err(), "it made room");
        } else {
            assert!(matches!(more, Err(RegistryError::Busy(OWN_UPLOADS))));
            assert!(registry.0.hold_upload(&repository, &other).await.is_ok());
        }
        drop(more);
        // Another identity has room in any case, and small blobs have as long as the total permits.
        drop(begin(&two).await.unwrap());
        assert_eq!(registry.put_blob(&repository, CONTENT.into()).await.is_ok(), has_room);
        drop(held);
        assert!(registry.0.hold_upload(&repository, &busy).await.is_ok() || has_room);
        registry.close().await;
    }
}

#[tokio::test]
async fn an_idle_upload_has_no_open_file_and_continues() {
    let folder = tempfile::tempdir().unwrap();
    let (resolver, authorizer) = (Arc::new(NoReservedTags), Arc::new(Open::new(None)));
    let settings = RegistrySettings::new(folder.path());
    let registry = Registry::open(settings, resolver, authorizer).await.unwrap();
    let repository: RepoName = "a".parse().unwrap();
    let name = |file: std::io::Result<std::fs::DirEntry>| std::fs::read_link(file.unwrap().path());
    let open_files = |id: &UploadId| {
        let files = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|file| name(file).ok());
        files.filter(|file| file.to_string_lossy().contains(id.as_str())).count()
    };
    let (id, held) = registry.0.begin_upload(&OWNER, &repository).await.unwrap();
    assert_eq!(open_files(&id), 1);
    drop(held);
    assert_eq!(open_files(&id), 0);
    for part in ["con", "te"] {
        let held = registry.0.hold_upload(&repository, &id).await.unwrap();
        let held = registry.0.receive(&id, held, part.into()).await.unwrap();
        // The second part is not synced, as when its client goes away.
        if part == "con" {
            drop(registry.0.sync_upload(&id, held).await.unwrap());
        } else {
            drop(held);
        }
        assert_eq!(open_files(&id), 0);
    }
    let held = registry.0.hold_upload(&repository, &id).await.unwrap();
    let held = registry.0.receive(&id, held, "nt".into()).await.unwrap();
    registry.0.publish_upload(&id, held, &repository, &Digest::of(CONTENT)).await.unwrap();
    assert_eq!(registry.blob(&repository, &Digest::of(CONTENT), 100).await.unwrap(), CONTENT);
    registry.close().await;
}
