//! Blobs: whole, in ranges, by HEAD; deletion.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use edgewright_model::Digest;
use edgewright_model::reference::RepoName;

use super::error::HttpError;
use super::{CONTENT_DIGEST, Call, HttpResult, empty, value};
use crate::credentials::BaseUrl;
use crate::download::{Content, Part};
use crate::downloads::Downloader;
use crate::error::RegistryError;
use crate::ports::{Lookup, Redirection};
use crate::range::{Asked, parse_range};

/// Blobs are immutable.
const FOREVER: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");
/// The multipart boundary. It need not be absent from blobs, because each part has its length.
const BOUNDARY: &str = "edgewright-a1f0c77b5c2e4d0e";

impl Call<'_> {
    pub(super) async fn blob(&self, name: &RepoName, digest: &Digest) -> HttpResult {
        let wants_body = self.wants_body();
        let home = self.inner.home(self.principal, name, Lookup::Blob(digest)).await?;
        let unknown = || RegistryError::BlobUnknown { repository: name.clone(), digest: digest.clone() };
        let home = &home.ok_or_else(unknown)?;
        let redirection = if home == name {
            Redirection::None
        } else {
            let base = BaseUrl::of(&self.parts.uri, &self.parts.headers, &self.parts.extensions);
            self.inner.redirect(home, digest, &base).await?
        };
        if let Redirection::To(url) = &redirection {
            let headers = [(header::LOCATION, value(url)), (CONTENT_DIGEST, value(&digest.to_string()))];
            return Ok(empty(StatusCode::TEMPORARY_REDIRECT, headers));
        }
        let content = self.content((name, home), digest, &redirection).await?;
        if let (Content::Own(blob), false) = (&content, wants_body) {
            self.inner.renew(home, digest, blob.row()).await?;
        }
        let size = content.size();
        let etag = format!("\"{digest}\"");
        let common = common_headers(digest, &etag);
        if self.has_current(&etag) {
            return Ok(empty(StatusCode::NOT_MODIFIED, common));
        }
        if !wants_body {
            let rest = [(header::CONTENT_TYPE, OCTETS), (header::CONTENT_LENGTH, size.into())];
            return Ok(empty(StatusCode::OK, common.into_iter().chain(rest)));
        }
        // A range of another entity would be a range of another blob.
        let is_current = self.header(header::IF_RANGE).is_none_or(|condition| condition.trim() == etag);
        let asked = parse_range(self.header(header::RANGE).filter(|_| is_current), size);
        let shape = match asked {
            Asked::Whole => Shape::whole(size),
            // Each part would be a request to the external registry.
            Asked::Parts(parts) if parts.len() > 1 && matches!(content, Content::External(_)) => {
                Shape::whole(size)
            }
            Asked::Parts(parts) => Shape::parts(parts, size),
            Asked::Nothing => {
                let error = HttpError::range_not_satisfiable(size);
                return Err(common.into_iter().fold(error, HttpError::with_value));
            }
        };
        let downloader = Downloader::of(self.principal, &self.parts.extensions);
        let of = (name, digest, &downloader);
        let body = self.inner.stream_blob(of, content, shape.parts, shape.tail).await?;
        let mut response = Response::new(body);
        *response.status_mut() = shape.status;
        response.headers_mut().extend(common.into_iter().chain(shape.headers));
        Ok(response)
    }

    /// The own file of a blob; of a blob of a virtual repository whose file is lost, the copy of an external
    /// registry.
    async fn content(
        &self,
        (name, home): (&RepoName, &RepoName),
        digest: &Digest,
        redirection: &Redirection,
    ) -> Result<Content, RegistryError> {
        let error = match self.inner.open_blob(home, digest).await {
            Ok(blob) => return Ok(Content::Own(blob)),
            Err(error @ RegistryError::BlobUnknown { .. }) if home != name => error,
            Err(error) => return Err(error),
        };
        match self.inner.external_blob(home, digest).await? {
            Some(blob) => Ok(Content::External(Box::new(blob))),
            None if *redirection == Redirection::Unavailable => {
                Err(RegistryError::ExternalUnavailable(digest.clone()))
            }
            None => Err(error),
        }
    }

    pub(super) async fn delete_blob(&self, name: &RepoName, digest: &Digest) -> HttpResult {
        let (repository, digest) = (name.clone(), digest.clone());
        self.inner.metadata.change(crate::metadata::Change::UnlinkBlob { repository, digest }).await?;
        Ok((StatusCode::ACCEPTED, Body::empty()).into_response())
    }
}

fn common_headers(digest: &Digest, etag: &str) -> [(HeaderName, HeaderValue); 4] {
    [
        (CONTENT_DIGEST, value(&digest.to_string())),
        (header::ETAG, value(etag)),
        (header::CACHE_CONTROL, FOREVER),
        (header::ACCEPT_RANGES, BYTES),
    ]
}

/// The body of a response.
struct Shape {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    parts: Vec<Part>,
    tail: Bytes,
}

impl Shape {
    fn whole(size: u64) -> Self {
        Self {
            status: StatusCode::OK,
            headers: vec![(header::CONTENT_TYPE, OCTETS), (header::CONTENT_LENGTH, size.into())],
            parts: vec![Part { head: Bytes::new(), range: 0..size }],
            tail: Bytes::new(),
        }
    }

    fn parts(ranges: Vec<std::ops::Range<u64>>, size: u64) -> Self {
        let content_range =
            |range: &std::ops::Range<u64>| format!("bytes {}-{}/{size}", range.start, range.end - 1);
        let status = StatusCode::PARTIAL_CONTENT;
        if let [range] = &ranges[..] {
            let headers = vec![
                (header::CONTENT_TYPE, OCTETS),
                (header::CONTENT_LENGTH, (range.end - range.start).into()),
                (header::CONTENT_RANGE, value(&content_range(range))),
            ];
            let parts = vec![Part { head: Bytes::new(), range: range.clone() }];
            return Self { status, headers, parts, tail: Bytes::new() };
        }
        let head = |range: &std::ops::Range<u64>| {
            let content_range = content_range(range);
            format!(
                "\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\nContent-Range: {content_range}\r\n\r\n"
            )
        };
        let parts: Vec<Part> =
            ranges.into_iter().map(|range| Part { head: head(&range).into(), range }).collect();
        let tail = Bytes::from(format!("\r\n--{BOUNDARY}--\r\n"));
        let lengths = parts.iter().map(|part| part.head.len() as u64 + (part.range.end - part.range.start));
        let length = lengths.sum::<u64>() + tail.len() as u64;
        let headers = vec![
            (header::CONTENT_TYPE, value(&format!("multipart/byteranges; boundary={BOUNDARY}"))),
            (header::CONTENT_LENGTH, length.into()),
        ];
        Self { status, headers, parts, tail }
    }
}
