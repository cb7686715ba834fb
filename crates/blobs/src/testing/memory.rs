//! The simulated store: power cuts, a full disk and failing calls on demand.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgewright_model::Digest;

use crate::port::{BlobError, BlobFile, BlobStore, DiskUsage, UploadFile, UploadId};

/// A step of the write protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// [`BlobStore::create_upload`].
    Create,
    /// [`UploadFile::append`].
    Append,
    /// [`UploadFile::sync`].
    Sync,
    /// [`BlobStore::publish`], before the rename.
    Publish,
    /// [`BlobStore::publish`], after the rename, before the directory is synced.
    PublishSync,
    /// [`BlobStore::remove`].
    Remove,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full.
    NoSpace,
    /// The medium gives an error.
    Io,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes, and how many of them were synced.
    uploads: BTreeMap<UploadId, (Vec<u8>, usize)>,
    blobs: BTreeMap<Digest, Arc<Vec<u8>>>,
    fault: Option<(Operation, Fault)>,
}

/// A store in memory. Clones share it, so a test keeps one while the registry has another.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

impl MemoryStore {
    /// Lets `operation` fail from now on, until [`Self::heal`].
    pub fn fail(&self, operation: Operation, fault: Fault) {
        self.lock().fault = Some((operation, fault));
    }

    /// Ends all failures.
    pub fn heal(&self) {
        self.lock().fault = None;
    }

    /// Simulates the worst case of a power cut: bytes that were not synced are lost.
    pub fn cut_power(&self) {
        for (bytes, synced) in self.lock().uploads.values_mut() {
            bytes.truncate(*synced);
        }
    }

    /// Replaces a blob's bytes, as bit rot would.
    pub fn damage(&self, digest: &Digest, bytes: &[u8]) {
        self.lock().blobs.insert(digest.clone(), Arc::new(bytes.to_vec()));
    }

    /// The number of uploads.
    pub fn open_uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    /// Whether there is a blob with a digest.
    pub fn has(&self, digest: &Digest) -> bool {
        self.lock().blobs.contains_key(digest)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics between two changes, so a poisoned state is consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, operation: Operation) -> Result<(), BlobError> {
        let kind = match self.lock().fault {
            Some((failing, Fault::NoSpace)) if failing == operation => io::ErrorKind::StorageFull,
            Some((failing, Fault::Io)) if failing == operation => io::ErrorKind::Other,
            _ => return Ok(()),
        };
        Err(BlobError::io("simulate", format!("{operation:?}"), kind.into()))
    }

    fn upload(&self, id: &UploadId) -> Result<(Vec<u8>, usize), BlobError> {
        self.lock().uploads.get(id).cloned().ok_or_else(|| BlobError::Missing(id.to_string()))
    }
}

impl BlobStore for MemoryStore {
    fn create_upload(&self, id: &UploadId) -> Result<Box<dyn UploadFile>, BlobError> {
        self.check(Operation::Create)?;
        self.lock().uploads.insert(id.clone(), (Vec::new(), 0));
        Ok(Box::new(MemoryUpload { store: self.clone(), id: id.clone(), size: 0 }))
    }

    fn open_upload(&self, id: &UploadId) -> Result<Box<dyn UploadFile>, BlobError> {
        let size = self.upload(id)?.0.len() as u64;
        Ok(Box::new(MemoryUpload { store: self.clone(), id: id.clone(), size }))
    }

    fn discard_upload(&self, id: &UploadId) -> Result<(), BlobError> {
        self.lock().uploads.remove(id);
        Ok(())
    }

    fn publish(&self, id: &UploadId, digest: &Digest) -> Result<(), BlobError> {
        self.check(Operation::Publish)?;
        let (bytes, _) = self.upload(id)?;
        let mut state = self.lock();
        state.uploads.remove(id);
        state.blobs.insert(digest.clone(), Arc::new(bytes));
        drop(state);
        self.check(Operation::PublishSync)
    }

    fn settle(&self, digest: &Digest) -> Result<bool, BlobError> {
        Ok(self.lock().blobs.contains_key(digest))
    }

    fn open(&self, digest: &Digest) -> Result<Box<dyn BlobFile>, BlobError> {
        let bytes = self.lock().blobs.get(digest).cloned();
        Ok(Box::new(MemoryBlob(bytes.ok_or_else(|| BlobError::Missing(digest.to_string()))?)))
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        Ok(self.lock().blobs.get(digest).map(|bytes| bytes.len() as u64))
    }

    fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        self.check(Operation::Remove)?;
        self.lock().blobs.remove(digest);
        Ok(())
    }

    fn disk_usage(&self) -> Result<DiskUsage, BlobError> {
        Ok(DiskUsage { total: u64::MAX, available: u64::MAX })
    }
}

#[derive(Debug)]
struct MemoryUpload {
    store: MemoryStore,
    id: UploadId,
    size: u64,
}

impl MemoryUpload {
    fn change(&self, change: impl FnOnce(&mut (Vec<u8>, usize))) -> Result<(), BlobError> {
        let mut state = self.store.lock();
        let upload = state.uploads.get_mut(&self.id);
        change(upload.ok_or_else(|| BlobError::Missing(self.id.to_string()))?);
        Ok(())
    }
}

impl UploadFile for MemoryUpload {
    fn size(&self) -> u64 {
        self.size
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.store.check(Operation::Append)?;
        self.change(|(have, _)| have.extend_from_slice(bytes))?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), BlobError> {
        self.store.check(Operation::Sync)?;
        self.change(|(have, synced)| *synced = have.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, BlobError> {
        Ok(copy_at(&self.store.upload(&self.id)?.0, offset, buffer))
    }
}

#[derive(Debug)]
struct MemoryBlob(Arc<Vec<u8>>);

impl BlobFile for MemoryBlob {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, BlobError> {
        Ok(copy_at(&self.0, offset, buffer))
    }
}

fn copy_at(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> usize {
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
    let count = rest.len().min(buffer.len());
    buffer[..count].copy_from_slice(&rest[..count]);
    count
}
