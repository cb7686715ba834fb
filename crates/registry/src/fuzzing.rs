//! What fuzz targets reach of the parsers of requests. Only with the feature `fuzzing`.

use std::ops::Range;

use bytes::Bytes;
use edgewright_model::Digest;

use crate::range::Asked;
use crate::request::{self, Endpoint};
use crate::{credentials, manifest, range};

/// The path of an endpoint as a client writes it, from a path after `/v2/`; `None` if that has no endpoint.
pub fn endpoint(path: &str) -> Option<String> {
    Some(match request::parse_path(path).ok()? {
        Endpoint::Ping => String::new(),
        Endpoint::Token => "token".to_owned(),
        Endpoint::Catalog => "_catalog".to_owned(),
        Endpoint::Tags(name) => format!("{name}/tags/list"),
        Endpoint::Manifest(name, reference) => format!("{name}/manifests/{reference}"),
        Endpoint::Blob(name, digest) => format!("{name}/blobs/{digest}"),
        Endpoint::Uploads(name) => format!("{name}/blobs/uploads/"),
        Endpoint::Upload(name, id) => format!("{name}/blobs/uploads/{id}"),
        Endpoint::Referrers(name, digest) => format!("{name}/referrers/{digest}"),
    })
}

/// The values of a parameter in a query.
pub fn query(query: &str, name: &str) -> Vec<String> {
    request::Query::parse(query).all(name).map(str::to_owned).collect()
}

/// A text as a value of a query.
pub fn percent_encode(text: &str) -> String {
    request::percent_encode(text)
}

/// The parts that a `Range` header asks for; `None` for all of a blob.
pub fn range(header: &str, size: u64) -> Option<Vec<Range<u64>>> {
    match range::parse_range(Some(header), size) {
        Asked::Whole => None,
        Asked::Parts(parts) => Some(parts),
        Asked::Nothing => Some(Vec::new()),
    }
}

/// The bytes that a `Content-Range` header names.
pub fn content_range(header: &str) -> Option<Range<u64>> {
    range::parse_content_range(header)
}

/// The token that an `Authorization` header presents.
pub fn token(header: &[u8]) -> Option<String> {
    credentials::presented(header)
}

/// What is read of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type.
    pub media_type: String,
    /// Its annotations, a JSON object.
    pub annotations: String,
    /// The digests that must be in its repository, each with a size.
    pub needs: Vec<(Digest, u64)>,
    /// Whether only Edgewright may write it.
    pub is_reserved: bool,
}

/// The manifest of a request's body; `None` if it is rejected.
pub fn manifest(content_type: Option<&str>, body: &[u8]) -> Option<Manifest> {
    let read = manifest::parse(content_type, Digest::of(body), Bytes::copy_from_slice(body)).ok()?;
    let needs = read.blobs.iter().chain(&read.manifests).map(|needed| (needed.digest.clone(), needed.size));
    Some(Manifest {
        needs: needs.collect(),
        is_reserved: manifest::is_reserved(read.artifact_type.as_deref()),
        media_type: read.media_type,
        annotations: read.annotations,
    })
}
