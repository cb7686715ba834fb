//! Pushing blobs: in one request, in chunks, by mount.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use edgewright_blobs::UploadId;
use edgewright_model::Digest;
use edgewright_model::reference::RepoName;

use super::error::HttpError;
use super::{CONTENT_DIGEST, Call, HttpResult, empty, value};
use crate::error::RegistryError;
use crate::metadata::Change;
use crate::ports::{Action, Lookup};
use crate::range::parse_content_range;
use crate::session::{Held, Session};
use crate::uploads::WHOLE_LIMIT;

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl Call<'_> {
    pub(super) async fn begin_upload(&self, name: &RepoName, body: Body) -> HttpResult {
        if let Some(digest) = self.digest("mount")?
            && self.mount(name, &digest).await?
        {
            return Ok(created(name, &digest));
        }
        let digest = self.digest("digest")?;
        if let Some(digest) = &digest
            && self.length().is_some_and(|length| length <= WHOLE_LIMIT)
        {
            let body = self.inner.whole_body(body).await?;
            self.inner.store_whole(name, body, digest).await?;
            return Ok(created(name, digest));
        }
        if digest.is_some() {
            self.inner.check_space(self.length(), None).await?;
        }
        let (id, held) = self.inner.begin_upload(self.principal, name).await?;
        let Some(digest) = digest else {
            return Ok(accepted(StatusCode::ACCEPTED, name, &id, 0));
        };
        match self.inner.receive(&id, held, body).await {
            Ok(held) => self.inner.publish_upload(&id, held, name, &digest).await?,
            Err(error) => {
                // The client does not know the upload's name.
                self.inner.drop_upload(&id).await;
                return Err(error.into());
            }
        }
        Ok(created(name, &digest))
    }

    /// Whether the blob was mounted; if not, the client must push it.
    async fn mount(&self, name: &RepoName, digest: &Digest) -> Result<bool, HttpError> {
        let Some(from) = self.query.get("from") else { return Ok(false) };
        let from: RepoName = from
            .parse()
            .map_err(|e: edgewright_model::names::InvalidName| HttpError::name_invalid(e.to_string()))?;
        if self.authorize(Action::MountFrom(&from, digest)).await.is_err() {
            return Ok(false);
        }
        let home = self.inner.home(self.principal, &from, Lookup::Blob(digest)).await?;
        let Some(from) = home else { return Ok(false) };
        // Opening also checks that the file exists.
        match self.inner.open_blob(&from, digest).await {
            Ok(_) => {}
            Err(RegistryError::BlobUnknown { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let mount = Change::Mount { from, to: name.clone(), digest: digest.clone() };
        match self.inner.metadata.change(mount).await {
            Ok(()) => Ok(true),
            Err(RegistryError::BlobUnknown { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn upload_status(&self, name: &RepoName, id: &UploadId) -> HttpResult {
        let held = self.inner.hold_upload(name, id).await?;
        Ok(accepted(StatusCode::NO_CONTENT, name, id, size(&held)))
    }

    pub(super) async fn append_upload(&self, name: &RepoName, id: &UploadId, body: Body) -> HttpResult {
        let mut held = self.inner.hold_upload(name, id).await?;
        let end = self.chunk_end(name, id, &held)?;
        self.inner.check_space(self.length(), Some((id, &mut held))).await?;
        let held = self.inner.receive(id, held, body).await?;
        let (held, size) = self.inner.sync_upload(id, held).await?;
        drop(held);
        check_end(end, size)?;
        Ok(accepted(StatusCode::ACCEPTED, name, id, size))
    }

    pub(super) async fn finish_upload(&self, name: &RepoName, id: &UploadId, body: Body) -> HttpResult {
        let digest = self.digest("digest")?;
        let digest = digest.ok_or_else(|| HttpError::digest_invalid("missing query parameter `digest`"))?;
        let mut held = self.inner.hold_upload(name, id).await?;
        let end = self.chunk_end(name, id, &held)?;
        self.inner.check_space(self.length(), Some((id, &mut held))).await?;
        let held = self.inner.receive(id, held, body).await?;
        check_end(end, size(&held))?;
        self.inner.publish_upload(id, held, name, &digest).await?;
        Ok(created(name, &digest))
    }

    pub(super) async fn cancel_upload(&self, name: &RepoName, id: &UploadId) -> HttpResult {
        self.inner.cancel_upload(name, id).await?;
        Ok(empty(StatusCode::NO_CONTENT, []))
    }

    /// The length of the body, if declared.
    fn length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }

    fn digest(&self, parameter: &str) -> Result<Option<Digest>, HttpError> {
        let digest = self.query.get(parameter).map(str::parse).transpose();
        digest.map_err(|e: edgewright_model::digest::InvalidDigest| HttpError::digest_invalid(e.to_string()))
    }

    /// The declared end of a chunk, after a check that it begins at the end of the upload.
    fn chunk_end(&self, name: &RepoName, id: &UploadId, held: &Held) -> Result<Option<u64>, HttpError> {
        let Some(header) = self.header(header::CONTENT_RANGE) else { return Ok(None) };
        let range = parse_content_range(header);
        let range =
            range.ok_or_else(|| HttpError::upload_invalid("malformed Content-Range: expected START-END"))?;
        let expected = size(held);
        if range.start != expected {
            let error = HttpError::from(RegistryError::ChunkOutOfOrder { expected });
            return Err(error
                .with(header::LOCATION, &location(name, id))
                .with(header::RANGE, &have(expected)));
        }
        match self.length() {
            Some(actual) if actual != range.end - range.start => {
                Err(RegistryError::SizeMismatch { expected: range.end - range.start, actual }.into())
            }
            _ => Ok(Some(range.end)),
        }
    }
}

fn check_end(end: Option<u64>, actual: u64) -> Result<(), RegistryError> {
    match end {
        Some(expected) if expected != actual => Err(RegistryError::SizeMismatch { expected, actual }),
        _ => Ok(()),
    }
}

fn size(held: &Held) -> u64 {
    match &**held {
        Session::Open(writer) => writer.size(),
        Session::Closed | Session::Parked(_) | Session::Ended => 0,
    }
}

fn location(name: &RepoName, id: &UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// The received range of the upload, inclusive; `0-0` for an empty one, as clients expect.
fn have(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn accepted(status: StatusCode, name: &RepoName, id: &UploadId, size: u64) -> axum::response::Response {
    let headers = [
        (header::LOCATION, value(&location(name, id))),
        (header::RANGE, value(&have(size))),
        (UPLOAD_ID, value(id.as_str())),
    ];
    empty(status, headers)
}

fn created(name: &RepoName, digest: &Digest) -> axum::response::Response {
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::LOCATION, value(&format!("/v2/{name}/blobs/{digest}"))),
        (CONTENT_DIGEST, value(&digest.to_string())),
    ];
    empty(StatusCode::CREATED, headers)
}
