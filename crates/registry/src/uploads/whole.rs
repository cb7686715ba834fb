//! Small blobs in one request: upload and intent are recorded in one commit, so that each blob takes two
//! commits, not three.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use edgewright_blobs::checksum::Summer;
use edgewright_blobs::{BlobError, UploadId};
use edgewright_model::Digest;
use edgewright_model::digest::Hasher;
use edgewright_model::reference::RepoName;
use tokio::task::spawn_blocking;

use crate::error::RegistryError;
use crate::metadata::{Change, Intent, UploadQuota};
use crate::registry::Inner;
use crate::session::Session;

/// The largest blob that is received in memory, in bytes.
pub(crate) const WHOLE_LIMIT: u64 = 64 * 1024;

impl Inner {
    /// Reads a body of at most [`WHOLE_LIMIT`].
    pub(crate) async fn whole_body(&self, body: Body) -> Result<Bytes, RegistryError> {
        let _turn = self.uploads.turn().await?;
        let limit = usize::try_from(WHOLE_LIMIT).unwrap_or(usize::MAX);
        axum::body::to_bytes(body, limit).await.map_err(|_| RegistryError::BodyIncomplete)
    }

    /// Stores bytes as the blob `expected`. Runs to its end even if the client goes away.
    pub(crate) async fn store_whole(
        self: &Arc<Self>,
        repository: &RepoName,
        bytes: Bytes,
        expected: &Digest,
    ) -> Result<(), RegistryError> {
        let mut hasher = Hasher::new(expected.algorithm());
        hasher.update(&bytes);
        let digest = hasher.finish();
        if digest != *expected {
            return Err(RegistryError::DigestMismatch { expected: expected.clone(), actual: digest });
        }
        let mut summer = Summer::default();
        summer.update(&bytes);
        let intent = Intent {
            upload: super::new_id()?,
            repository: repository.clone(),
            digest,
            size: bytes.len() as u64,
            checksums: summer.finish(),
        };
        let inner = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let mut held = inner.uploads.session(&intent.upload).lock_owned().await;
            // No client knows its name, so only maintenance could delete it.
            *held = Session::Ended;
            let stored = inner.write_whole(&intent, bytes).await;
            match &stored {
                Ok(()) => inner.uploads.forget(&intent.upload),
                Err(_) => inner.drop_upload(&intent.upload).await,
            }
            drop(held);
            stored
        });
        task.await?
    }

    async fn write_whole(&self, intent: &Intent, bytes: Bytes) -> Result<(), RegistryError> {
        // It is in memory already and ends at once, so it counts for the total only.
        let total = self.settings.max_uploads;
        let quota = UploadQuota { owner: String::new(), total, share: total };
        self.begin(&quota, || Change::BeginIntended { intent: intent.clone(), quota: quota.clone() }).await?;
        let (store, upload): (_, UploadId) = (Arc::clone(&self.store), intent.upload.clone());
        let written = spawn_blocking(move || -> Result<(), BlobError> {
            let mut file = store.create_upload(&upload)?;
            file.append(&bytes)?;
            file.sync()
        });
        written.await??;
        self.place(intent).await
    }
}
