//! Manifests: by tag and by digest.

use axum::body::Body;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use edgewright_model::Digest;
use edgewright_model::digest::Hasher;
use edgewright_model::reference::{Reference, RepoName, Tag};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::task::spawn_blocking;

use super::error::HttpError;
use super::{CONTENT_DIGEST, Call, HttpResult, empty, value};
use crate::error::RegistryError;
use crate::manifest::{is_reserved, parse};
use crate::metadata::Change;
use crate::ports::Action;
use crate::settings::MANIFEST_LIMIT;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");

impl Call<'_> {
    pub(super) async fn manifest(&self, name: &RepoName, reference: &Reference) -> HttpResult {
        let (digest, manifest) = self.inner.manifest(self.principal, name, reference).await?;
        let etag = format!("\"{digest}\"");
        let common = [(CONTENT_DIGEST, value(&digest.to_string())), (header::ETAG, value(&etag))];
        if self.has_current(&etag) {
            return Ok(empty(StatusCode::NOT_MODIFIED, common));
        }
        let length = manifest.bytes.len();
        let body = if self.wants_body() { Body::from(manifest.bytes) } else { Body::empty() };
        let mut response = Response::new(body);
        let own =
            [(header::CONTENT_TYPE, value(&manifest.media_type)), (header::CONTENT_LENGTH, length.into())];
        response.headers_mut().extend(common.into_iter().chain(own));
        Ok(response)
    }

    pub(super) async fn put_manifest(&self, name: &RepoName, reference: Reference, body: Body) -> HttpResult {
        let bytes = Self::manifest_body(body).await?;
        let expected = match &reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(_) => None,
        };
        let content_type = self.header(header::CONTENT_TYPE).map(str::to_owned);
        let parsed = spawn_blocking(move || {
            let digest = checked_digest(expected, &bytes)?;
            parse(content_type.as_deref(), digest, bytes)
        });
        let manifest = parsed.await.map_err(RegistryError::from)??;
        if is_reserved(manifest.artifact_type.as_deref()) {
            self.authorize(Action::WriteReserved(name)).await?;
        }
        let tags = self.tags_of(reference)?;
        if !tags.is_empty() {
            self.authorize(Action::Tag(name)).await?;
        }
        let digest = manifest.digest.clone();
        let mut headers = vec![
            (header::LOCATION, value(&format!("/v2/{name}/manifests/{digest}"))),
            (CONTENT_DIGEST, value(&digest.to_string())),
        ];
        headers.extend(manifest.subject.as_ref().map(|subject| (SUBJECT, value(&subject.to_string()))));
        let named = tags.clone();
        self.inner.store_manifest(self.principal, name, manifest, tags).await?;
        let mut response = empty(StatusCode::CREATED, headers);
        for tag in named.iter().filter(|_| self.query.get("tag").is_some()) {
            response.headers_mut().append(TAG, value(tag.as_str()));
        }
        Ok(response)
    }

    /// The tag of the path, and those of the query (`?tag=a&tag=b`).
    fn tags_of(&self, reference: Reference) -> Result<Vec<Tag>, HttpError> {
        let mut tags = match reference {
            Reference::Tag(tag) => vec![tag],
            Reference::Digest(_) => Vec::new(),
        };
        for tag in self.query.all("tag") {
            let tag: Result<Tag, _> = tag.parse();
            tags.push(tag.map_err(|error| HttpError::tag_invalid(error.to_string()))?);
        }
        Ok(tags)
    }

    async fn manifest_body(body: Body) -> Result<Bytes, HttpError> {
        match Limited::new(body, MANIFEST_LIMIT).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(RegistryError::ManifestTooLarge.into()),
            Err(_) => Err(RegistryError::BodyIncomplete.into()),
        }
    }

    pub(super) async fn delete_manifest(&self, name: &RepoName, reference: &Reference) -> HttpResult {
        let repository = name.clone();
        let change = match reference {
            Reference::Tag(tag) => {
                self.inner.reject_reserved(self.principal, name, reference).await?;
                Change::DeleteTag { repository, tag: tag.clone() }
            }
            Reference::Digest(digest) => {
                self.inner.reject_reserved(self.principal, name, reference).await?;
                let (_, manifest) = self.inner.manifest(self.principal, name, reference).await?;
                if is_reserved(manifest.artifact_type.as_deref()) {
                    self.authorize(Action::WriteReserved(name)).await?;
                }
                Change::DeleteManifest { repository, digest: digest.clone() }
            }
        };
        self.inner.metadata.change(change).await?;
        Ok(empty(StatusCode::ACCEPTED, []))
    }
}

/// The digest that the bytes are stored under: the client's, if it is correct.
fn checked_digest(expected: Option<Digest>, bytes: &[u8]) -> Result<Digest, RegistryError> {
    let Some(expected) = expected else { return Ok(Digest::of(bytes)) };
    let mut hasher = Hasher::new(expected.algorithm());
    hasher.update(bytes);
    let actual = hasher.finish();
    if actual == expected { Ok(actual) } else { Err(RegistryError::DigestMismatch { expected, actual }) }
}
