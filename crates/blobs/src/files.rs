//! The file adapter.
//!
//! ```text
//! FOLDER/uploads/ID                     being written
//! FOLDER/blobs/sha256/2c/2cf24d…        complete; named only by a rename of a synced upload
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use edgewright_model::Digest;

use crate::port::{BlobError, BlobFile, BlobStore, DiskUsage, UploadFile, UploadId};

/// Blobs as files in a folder of one file system.
#[derive(Debug)]
pub struct FileStore {
    blobs: PathBuf,
    uploads: PathBuf,
}

impl FileStore {
    /// Opens a folder, and creates it if it is missing.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        let store = Self { blobs: folder.join("blobs"), uploads: folder.join("uploads") };
        for made in [&store.blobs, &store.uploads] {
            make_folder(made).map_err(|e| BlobError::io("make folder", made.display(), e))?;
        }
        Ok(store)
    }

    fn upload(&self, id: &UploadId) -> PathBuf {
        self.uploads.join(id.as_str())
    }

    /// One folder for each first two digits keeps folders small.
    fn folder(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.algorithm().name()).join(&digest.hex()[..2])
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder(digest).join(digest.hex())
    }
}

/// Makes a folder with its parents; each new name is synced into its parent.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_folder(parent)?,
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // An empty parent is how a relative path names the working directory.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

impl BlobStore for FileStore {
    fn create_upload(&self, id: &UploadId) -> Result<Box<dyn UploadFile>, BlobError> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.upload(id));
        let file = file.map_err(|e| BlobError::io("make upload", id, e))?;
        Ok(Box::new(FileUpload { file, size: 0, id: id.clone() }))
    }

    fn open_upload(&self, id: &UploadId) -> Result<Box<dyn UploadFile>, BlobError> {
        let opened = OpenOptions::new().read(true).append(true).open(self.upload(id));
        let opened = opened.and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        let (file, size) = opened.map_err(|e| BlobError::io("open upload", id, e))?;
        Ok(Box::new(FileUpload { file, size, id: id.clone() }))
    }

    fn discard_upload(&self, id: &UploadId) -> Result<(), BlobError> {
        match fs::remove_file(self.upload(id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(BlobError::io("remove upload", id, e)),
            _ => Ok(()),
        }
    }

    fn publish(&self, id: &UploadId, digest: &Digest) -> Result<(), BlobError> {
        let folder = self.folder(digest);
        make_folder(&folder).map_err(|e| BlobError::io("make folder of", digest, e))?;
        fs::rename(self.upload(id), self.blob(digest)).map_err(|e| BlobError::io("publish", id, e))?;
        sync_folder(&folder).map_err(|e| BlobError::io("sync folder of", digest, e))
    }

    fn settle(&self, digest: &Digest) -> Result<bool, BlobError> {
        let synced = File::open(self.blob(digest)).and_then(|file| file.sync_all());
        match synced.and_then(|()| sync_folder(&self.folder(digest))) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(BlobError::io("settle", digest, e)),
        }
    }

    fn open(&self, digest: &Digest) -> Result<Box<dyn BlobFile>, BlobError> {
        let opened = File::open(self.blob(digest));
        let opened = opened.and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        let (file, size) = opened.map_err(|e| BlobError::io("open", digest, e))?;
        Ok(Box::new(FileBlob { file, size, digest: digest.clone() }))
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        match fs::metadata(self.blob(digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(BlobError::io("stat", digest, e)),
        }
    }

    fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        match fs::remove_file(self.blob(digest)) {
            Ok(()) => {
                sync_folder(&self.folder(digest)).map_err(|e| BlobError::io("sync folder of", digest, e))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(BlobError::io("remove", digest, e)),
        }
    }

    fn disk_usage(&self) -> Result<DiskUsage, BlobError> {
        let space = rustix::fs::statvfs(&self.blobs)
            .map_err(|e| BlobError::io("measure", self.blobs.display(), e.into()))?;
        Ok(DiskUsage { total: space.f_blocks * space.f_frsize, available: space.f_bavail * space.f_frsize })
    }
}

#[derive(Debug)]
struct FileUpload {
    file: File,
    size: u64,
    id: UploadId,
}

impl UploadFile for FileUpload {
    fn size(&self) -> u64 {
        self.size
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        if let Err(error) = self.file.write_all(bytes) {
            // A part may have been written: truncate to the end that the caller knows. If that fails, too,
            // the digest does not match at the end.
            let _ = self.file.set_len(self.size);
            let _ = io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.size));
            return Err(BlobError::io("write upload", &self.id, error));
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), BlobError> {
        self.file.sync_data().map_err(|e| BlobError::io("sync upload", &self.id, e))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, BlobError> {
        read_full(&self.file, offset, buffer).map_err(|e| BlobError::io("read upload", &self.id, e))
    }
}

#[derive(Debug)]
struct FileBlob {
    file: File,
    size: u64,
    digest: Digest,
}

impl BlobFile for FileBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, BlobError> {
        read_full(&self.file, offset, buffer).map_err(|e| BlobError::io("read", &self.digest, e))
    }
}

fn read_full(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
