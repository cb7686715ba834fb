//! A layer of a layout as a stream of its tar: decompressed, hashed, bounded, and with progress.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use edgewright_model::digest::Hasher;
use edgewright_oci::image::LayerRef;
use edgewright_oci::media;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::updater::{Image, Progress, UpdateError};

/// Bytes of tar between two reports of progress.
const REPORT_EVERY: u64 = 8 << 20;

/// The stream. It fails where the disk would be full, and when the operation is to stop.
pub(super) struct Verified<'a> {
    inner: Box<dyn AsyncRead + Send + Unpin>,
    hasher: Hasher,
    done: u64,
    reported: u64,
    limit: u64,
    what: String,
    progress: &'a Progress,
    error: Option<UpdateError>,
}

impl std::fmt::Debug for Verified<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified").field("what", &self.what).field("done", &self.done).finish_non_exhaustive()
    }
}

/// Opens a layer of an image's layout.
///
/// # Errors
/// The blob is missing, or of an unknown kind.
pub(super) async fn open<'a>(
    image: &Image,
    layer: &LayerRef,
    progress: &'a Progress,
    what: String,
    limit: u64,
) -> Result<Verified<'a>, UpdateError> {
    let descriptor = &layer.descriptor;
    let path = image.blob_path(&descriptor.digest);
    let file = match File::open(&path).await {
        Ok(file) => BufReader::new(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(UpdateError::Corrupt { digest: descriptor.digest.clone() });
        }
        Err(e) => return Err(UpdateError::io(format!("read {}", path.display()))(e)),
    };
    let inner: Box<dyn AsyncRead + Send + Unpin> = match descriptor.media_type.as_str() {
        media::LAYER_TAR => Box::new(file),
        media::LAYER_GZIP | media::DOCKER_LAYER => {
            let mut decoder = GzipDecoder::new(file);
            decoder.multiple_members(true);
            Box::new(decoder)
        }
        media::LAYER_ZSTD => {
            let mut decoder = ZstdDecoder::new(file);
            decoder.multiple_members(true);
            Box::new(decoder)
        }
        other => {
            let problem = format!("unsupported media type of a layer: {other}");
            return Err(UpdateError::Image { digest: image.digest().clone(), problem });
        }
    };
    let hasher = Hasher::new(layer.diff_id.algorithm());
    Ok(Verified { inner, hasher, done: 0, reported: 0, limit, what, progress, error: None })
}

impl Verified<'_> {
    /// The reason why reading failed, if this stream is the reason.
    pub(super) fn take_error(&mut self) -> Option<UpdateError> {
        self.error.take()
    }

    /// Reads what follows the end of the tar, and compares the digest of everything.
    ///
    /// # Errors
    /// Other content than the image's config demands.
    pub(super) async fn finish(mut self, layer: &LayerRef) -> Result<(), UpdateError> {
        let mut rest = vec![0; 1 << 16];
        loop {
            match self.read(&mut rest).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) => {
                    return Err(self.error.take().unwrap_or_else(|| UpdateError::io("read a layer")(e)));
                }
            }
        }
        let found = self.hasher.finish();
        if found == layer.diff_id {
            return Ok(());
        }
        Err(UpdateError::Corrupt { digest: layer.descriptor.digest.clone() })
    }

    fn count(&mut self, bytes: &[u8], cancel: &CancellationToken) -> io::Result<()> {
        self.hasher.update(bytes);
        self.done += bytes.len() as u64;
        if self.done > self.limit {
            self.error =
                Some(UpdateError::Space { path: "/sysroot".into(), needed: self.done, free: self.limit });
            return Err(io::ErrorKind::StorageFull.into());
        }
        if cancel.is_cancelled() {
            self.error = Some(UpdateError::Cancelled);
            return Err(io::ErrorKind::Other.into());
        }
        if self.done - self.reported >= REPORT_EVERY {
            self.reported = self.done;
            self.progress.step(&self.what, self.done, None);
        }
        Ok(())
    }
}

impl AsyncRead for Verified<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                let progress = this.progress;
                Poll::Ready(this.count(&buffer.filled()[before..], progress.cancel()))
            }
            other => other,
        }
    }
}
