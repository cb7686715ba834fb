//! Uploads: begin, append, publish by the write protocol, delete, and complete what a crash interrupted.

mod whole;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use edgewright_blobs::{BlobError, BlobStore, UploadId};
use edgewright_model::Digest;
use edgewright_model::digest::Algorithm;
use edgewright_model::principal::Principal;
use edgewright_model::reference::RepoName;
use tokio::sync::{MutexGuard, Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::error::{OWN_UPLOADS, RegistryError};
use crate::metadata::{Change, Intent, OpenUpload, UploadQuota, unix_millis};
use crate::registry::Inner;
pub(crate) use whole::WHOLE_LIMIT;

use crate::session::{Content, Cut, Held, Session, Writer, receive, with_writer};

/// The limit of concurrently received bodies: bounds memory to twice 256 KiB each.
const RECEIVING: usize = 128;
/// How long a request waits for another one on the same upload, or for a permit.
const WAIT: Duration = Duration::from_secs(15);
/// The least time between two updates of an upload's row, in milliseconds.
const TOUCH_EVERY: i64 = 60 * 60 * 1000;
/// The number of idle uploads that make room at once, so that not every new upload has to search.
const ROOM: usize = 16;
/// The number of locks that serialize publications of one digest.
const SHARDS: usize = 64;

/// Uploads in memory.
#[derive(Debug)]
pub(crate) struct Uploads {
    sessions: Mutex<HashMap<UploadId, Arc<tokio::sync::Mutex<Session>>>>,
    receiving: Semaphore,
    publishing: Vec<tokio::sync::Mutex<()>>,
}

impl Uploads {
    pub(crate) fn new() -> Self {
        Self {
            sessions: Mutex::default(),
            receiving: Semaphore::new(RECEIVING),
            publishing: (0..SHARDS).map(|_| tokio::sync::Mutex::default()).collect(),
        }
    }

    fn session(&self, id: &UploadId) -> Arc<tokio::sync::Mutex<Session>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.entry(id.clone());
        Arc::clone(session.or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Session::Closed))))
    }

    /// How long no request has held an upload; none if one does now.
    fn idle(&self, upload: &OpenUpload, now: i64) -> Option<Duration> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let since_touched = || Duration::from_millis(u64::try_from(now - upload.touched_at).unwrap_or(0));
        // Not in memory: no request since the start.
        let Some(session) = sessions.get(&upload.id) else { return Some(since_touched()) };
        match &*session.try_lock().ok()? {
            Session::Parked(parked) => Some(parked.idle()),
            Session::Closed => Some(since_touched()),
            Session::Open(_) | Session::Ended => None,
        }
    }

    fn forget(&self, id: &UploadId) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, RegistryError> {
        let turn = timeout(WAIT, self.receiving.acquire()).await;
        turn.map_err(|_| RegistryError::Busy("uploads"))?.map_err(|_| RegistryError::Closed)
    }

    pub(crate) async fn publishing(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        digest.hash(&mut hasher);
        let shard = usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or_default();
        self.publishing[shard].lock().await
    }
}

fn new_id() -> Result<UploadId, RegistryError> {
    uuid::Uuid::now_v7().to_string().parse().map_err(|_| RegistryError::Corrupt("upload id"))
}

impl Inner {
    /// Begins an upload.
    pub(crate) async fn begin_upload(
        &self,
        principal: &Principal,
        repository: &RepoName,
    ) -> Result<(UploadId, Held), RegistryError> {
        let id = new_id()?;
        let quota = UploadQuota {
            owner: principal.to_string(),
            total: self.settings.max_uploads,
            share: self.settings.max_uploads_per_identity,
        };
        let begun = || {
            let (upload, repository) = (id.clone(), repository.clone());
            Change::BeginUpload { upload, repository, quota: quota.clone() }
        };
        self.begin(&quota, begun).await?;
        let (store, named) = (Arc::clone(&self.store), id.clone());
        let created = spawn_blocking(move || Writer::create(&*store, &named)).await?;
        let mut held = Held::new(self.uploads.session(&id).lock_owned().await);
        match created {
            Ok(writer) => *held = Session::Open(Box::new(writer)),
            Err(error) => {
                *held = Session::Ended;
                self.drop_upload(&id).await;
                return Err(error.into());
            }
        }
        Ok((id, held))
    }

    /// Commits the beginning of an upload. If too many are open, idle ones make room.
    async fn begin(&self, quota: &UploadQuota, begun: impl Fn() -> Change) -> Result<(), RegistryError> {
        match self.metadata.change(begun()).await {
            Err(RegistryError::Busy(what)) => {
                let owner = (what == OWN_UPLOADS).then_some(quota.owner.as_str());
                if self.make_room(owner).await? == 0 {
                    return Err(RegistryError::Busy(what));
                }
                self.metadata.change(begun()).await
            }
            begun => begun,
        }
    }

    /// Deletes uploads that are idle for longest, of one owner if given; gives their number.
    async fn make_room(&self, owner: Option<&str>) -> Result<usize, RegistryError> {
        let now = unix_millis();
        let open = self.metadata.open_uploads().await?;
        let open = open.into_iter().filter(|upload| owner.is_none_or(|owner| upload.owner == owner));
        let idle = open.filter_map(|upload| Some((self.uploads.idle(&upload, now)?, upload.id)));
        let mut idle: Vec<_> = idle.filter(|(idle, _)| *idle >= self.settings.upload_grace).collect();
        idle.sort_unstable_by_key(|(idle, _)| Reverse(*idle));
        let mut dropped = 0;
        for (_, id) in idle.into_iter().take(ROOM) {
            let Ok(mut held) = self.uploads.session(&id).try_lock_owned() else { continue };
            *held = Session::Ended;
            self.drop_upload(&id).await;
            dropped += 1;
        }
        if dropped > 0 {
            tracing::info!(uploads = dropped, owner, "deleted idle uploads to make room for new ones");
        }
        Ok(dropped)
    }

    /// Locks an upload that was begun in `repository`.
    pub(crate) async fn hold_upload(
        &self,
        repository: &RepoName,
        id: &UploadId,
    ) -> Result<Held, RegistryError> {
        let waited = timeout(WAIT, self.uploads.session(id).lock_owned()).await;
        let mut held = Held::new(waited.map_err(|_| RegistryError::UploadInUse)?);
        // Looked up under the lock: a request that ends an upload holds it until the row is deleted.
        let row = self.metadata.upload(id).await?;
        let Some(row) = row.filter(|row| row.repository == *repository && !matches!(*held, Session::Ended))
        else {
            if matches!(*held, Session::Closed) {
                self.uploads.forget(id);
            }
            return Err(RegistryError::UploadUnknown);
        };
        let (store, named) = (Arc::clone(&self.store), id.clone());
        let writer = match std::mem::replace(&mut *held, Session::Closed) {
            Session::Parked(parked) => {
                spawn_blocking(move || Writer::unpark(&*store, &named, *parked)).await??
            }
            _ => spawn_blocking(move || Writer::resume(&*store, &named)).await??,
        };
        *held = Session::Open(Box::new(writer));
        if unix_millis() - row.touched_at > TOUCH_EVERY {
            self.metadata.change(Change::TouchUpload(id.clone())).await?;
        }
        Ok(held)
    }

    /// Checks that the disk has room for a body of `length` bytes, before any of it is read: clients would
    /// send all of it in vain. If there is none, the upload is deleted.
    pub(crate) async fn check_space(
        &self,
        length: Option<u64>,
        upload: Option<(&UploadId, &mut Held)>,
    ) -> Result<(), RegistryError> {
        let Some(length) = length.filter(|length| *length > WHOLE_LIMIT) else { return Ok(()) };
        let store = Arc::clone(&self.store);
        let available = spawn_blocking(move || store.disk_usage()).await??.available;
        if available >= length {
            return Ok(());
        }
        if let Some((id, held)) = upload {
            **held = Session::Ended;
            self.drop_upload(id).await;
        }
        Err(RegistryError::NoSpace)
    }

    /// Appends a body. The received part is kept if the client goes away, and deleted if the disk is full.
    pub(crate) async fn receive(&self, id: &UploadId, held: Held, body: Body) -> Result<Held, RegistryError> {
        let _turn = self.uploads.turn().await?;
        match receive(held, body).await {
            Ok(held) => Ok(held),
            Err(Cut::Client) => Err(RegistryError::BodyIncomplete),
            Err(Cut::Server(error)) => {
                self.drop_upload(id).await;
                Err(error)
            }
        }
    }

    /// Syncs the received part; gives its length.
    pub(crate) async fn sync_upload(&self, id: &UploadId, held: Held) -> Result<(Held, u64), RegistryError> {
        let synced = with_writer(held, |writer| writer.sync().map(|()| writer.size())).await;
        if synced.is_err() {
            self.drop_upload(id).await;
        }
        synced
    }

    /// Completes an upload as the blob `expected`. Runs to its end even if the client goes away.
    pub(crate) async fn publish_upload(
        self: &Arc<Self>,
        id: &UploadId,
        mut held: Held,
        repository: &RepoName,
        expected: &Digest,
    ) -> Result<(), RegistryError> {
        let Session::Open(writer) = std::mem::replace(&mut *held, Session::Ended) else {
            return Err(RegistryError::UploadUnknown);
        };
        let (inner, id) = (Arc::clone(self), id.clone());
        let (repository, expected) = (repository.clone(), expected.clone());
        let task = self.tasks.spawn(async move {
            let published = inner.publish(&id, writer, &repository, &expected).await;
            match &published {
                Ok(()) => inner.uploads.forget(&id),
                Err(_) => inner.drop_upload(&id).await,
            }
            drop(held);
            published
        });
        task.await?
    }

    async fn publish(
        &self,
        id: &UploadId,
        writer: Box<Writer>,
        repository: &RepoName,
        expected: &Digest,
    ) -> Result<(), RegistryError> {
        let algorithm: Algorithm = expected.algorithm();
        let (mut writer, Content { digest, size, checksums }) =
            spawn_blocking(move || writer.content(algorithm).map(|content| (writer, content))).await??;
        if digest != *expected {
            return Err(RegistryError::DigestMismatch { expected: expected.clone(), actual: digest });
        }
        let intent = Intent { upload: id.clone(), repository: repository.clone(), digest, size, checksums };
        let (intended, synced) = tokio::join!(
            self.metadata.change(Change::Intend(intent.clone())),
            spawn_blocking(move || writer.sync())
        );
        intended?;
        synced??;
        self.place(&intent).await
    }

    /// Publishes an upload that is synced and whose intent is recorded.
    async fn place(&self, intent: &Intent) -> Result<(), RegistryError> {
        let _publishing = self.uploads.publishing(&intent.digest).await;
        let (store, named, digest) = (Arc::clone(&self.store), intent.upload.clone(), intent.digest.clone());
        let published = spawn_blocking(move || store.publish(&named, &digest)).await?;
        let stored = match published {
            Ok(()) => self.metadata.change(Change::StoreBlob(intent.clone())).await,
            Err(error) => Err(error.into()),
        };
        if stored.is_err() {
            self.settle_failed(intent).await;
        }
        stored
    }

    /// Removes a file that may be in place without a row; the caller holds the digest's publishing lock. If
    /// there is a row, the blob was pushed before and the file is valid.
    async fn settle_failed(&self, intent: &Intent) {
        match self.metadata.has_blob_row(&intent.digest).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, blob.digest = %intent.digest, "cannot check for a blob without a row");
                return;
            }
        }
        let (store, digest) = (Arc::clone(&self.store), intent.digest.clone());
        if let Ok(Err(error)) = spawn_blocking(move || store.remove(&digest)).await {
            tracing::error!(%error, blob.digest = %intent.digest, "cannot remove a blob without a row");
        }
    }

    /// Deletes an upload. The file is deleted first, so that a full disk has room to delete the row;
    /// maintenance repeats failed deletions.
    pub(crate) async fn drop_upload(&self, id: &UploadId) {
        let (store, named): (Arc<dyn BlobStore>, _) = (Arc::clone(&self.store), id.clone());
        let discarded = spawn_blocking(move || store.discard_upload(&named)).await;
        let discarded = discarded.map_err(RegistryError::from).and_then(|discarded| Ok(discarded?));
        let dropped = match discarded {
            Ok(()) => self.metadata.change(Change::DropUpload(id.clone())).await,
            Err(error) => Err(error),
        };
        self.uploads.forget(id);
        if let Err(error) = dropped {
            tracing::warn!(%error, upload.id = %id, "cannot delete an upload; maintenance will retry");
        }
    }

    /// Cancels an upload for its client.
    pub(crate) async fn cancel_upload(
        &self,
        repository: &RepoName,
        id: &UploadId,
    ) -> Result<(), RegistryError> {
        let mut held = self.hold_upload(repository, id).await?;
        *held = Session::Ended;
        self.drop_upload(id).await;
        Ok(())
    }

    /// Completes or undoes publications between intent and row, unless a request is working on them.
    pub(crate) async fn settle_intents(&self) -> Result<(), RegistryError> {
        for intent in self.metadata.intents().await? {
            let Ok(_held) = self.uploads.session(&intent.upload).try_lock_owned() else { continue };
            self.settle(intent).await?;
        }
        Ok(())
    }

    async fn settle(&self, intent: Intent) -> Result<(), RegistryError> {
        let _publishing = self.uploads.publishing(&intent.digest).await;
        let (store, upload, digest) = (Arc::clone(&self.store), intent.upload.clone(), intent.digest.clone());
        let size = intent.size;
        let looked = spawn_blocking(move || -> Result<_, BlobError> {
            if store.open_upload(&upload).is_ok() {
                return Ok((true, false));
            }
            Ok((false, store.settle(&digest)? && store.size(&digest)? == Some(size)))
        });
        let (is_upload, is_blob) = looked.await??;
        let upload = intent.upload.clone();
        tracing::info!(upload.id = %upload, blob.digest = %intent.digest, is_upload, is_blob, "settling an open intent");
        let change = match (is_upload, is_blob) {
            (true, _) => Change::DropIntent(upload),
            (false, true) => Change::StoreBlob(intent),
            (false, false) => Change::DropUpload(upload),
        };
        self.metadata.change(change).await
    }

    /// Deletes uploads without requests since a time; gives their number.
    pub(crate) async fn expire_uploads(&self, since: i64) -> Result<u64, RegistryError> {
        let mut expired = 0;
        for id in self.metadata.uploads_untouched_since(since).await? {
            let Ok(mut held) = self.uploads.session(&id).try_lock_owned() else { continue };
            *held = Session::Ended;
            self.drop_upload(&id).await;
            expired += 1;
        }
        Ok(expired)
    }
}

#[cfg(test)]
mod tests;
