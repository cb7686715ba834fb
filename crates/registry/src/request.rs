//! The pure request parser: a path under `/v2/` becomes an [`Endpoint`].
//!
//! It reads from the right, since a repository's name may have segments called `blobs`, `manifests`, `tags`
//! or `uploads`.

use edgewright_blobs::UploadId;
use edgewright_model::Digest;
use edgewright_model::reference::{Reference, RepoName};

/// The endpoint of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v2/`
    Ping,
    /// `/v2/token`; no repository's endpoint has so few segments.
    Token,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags(RepoName),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(RepoName, Reference),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(RepoName, Digest),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(RepoName),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(RepoName, UploadId),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(RepoName, Digest),
}

/// Why a path has no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    /// Not of the distribution API.
    #[error("no such endpoint in the distribution API")]
    NotFound,
    #[error("invalid repository name: {0}")]
    Name(String),
    #[error("invalid digest: {0}")]
    Digest(String),
    #[error("invalid tag or digest: {0}")]
    Reference(String),
    #[error("upload not found")]
    Upload,
}

/// Parses the path after `/v2/`, still percent-encoded.
pub(crate) fn parse_path(path: &str) -> Result<Endpoint, PathError> {
    let decoded = percent_decode(path).ok_or(PathError::NotFound)?;
    if decoded.is_empty() {
        return Ok(Endpoint::Ping);
    }
    if decoded == "token" {
        return Ok(Endpoint::Token);
    }
    if decoded == "_catalog" {
        return Ok(Endpoint::Catalog);
    }
    let (rest, last) = decoded.rsplit_once('/').ok_or(PathError::NotFound)?;
    let (name, kind) = rest.rsplit_once('/').ok_or(PathError::NotFound)?;
    match (kind, last) {
        ("tags", "list") => Ok(Endpoint::Tags(repository(name)?)),
        ("manifests", reference) => {
            let repository = repository(name)?;
            reference
                .parse()
                .map(|reference| Endpoint::Manifest(repository, reference))
                .map_err(|e: edgewright_model::names::InvalidName| PathError::Reference(e.to_string()))
        }
        ("referrers", digest) => Ok(Endpoint::Referrers(repository(name)?, parse_digest(digest)?)),
        ("blobs", "uploads") => Ok(Endpoint::Uploads(repository(name)?)),
        ("blobs", digest) => Ok(Endpoint::Blob(repository(name)?, parse_digest(digest)?)),
        ("uploads", id) => {
            let name = name.strip_suffix("/blobs").ok_or(PathError::NotFound)?;
            let repository = repository(name)?;
            match id {
                "" => Ok(Endpoint::Uploads(repository)),
                id => id.parse().map(|id| Endpoint::Upload(repository, id)).map_err(|_| PathError::Upload),
            }
        }
        _ => Err(PathError::NotFound),
    }
}

fn repository(text: &str) -> Result<RepoName, PathError> {
    text.parse().map_err(|e: edgewright_model::names::InvalidName| PathError::Name(e.to_string()))
}

fn parse_digest(text: &str) -> Result<Digest, PathError> {
    text.parse().map_err(|e: edgewright_model::digest::InvalidDigest| PathError::Digest(e.to_string()))
}

/// The parameters of a query, in order; one name may come more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the query string; pairs that cannot be decoded are omitted.
    pub(crate) fn parse(query: &str) -> Self {
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A `+` in a digest algorithm's name or a media type is a plus: clients do not write spaces here.
            let value = if name == "artifactType" { percent_decode(value)? } else { decode(value)? };
            Some((decode(name)?, value))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Encodes characters that are not permitted in a query's value.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend(
                [byte >> 4, byte & 15].map(|nibble| char::from(b"0123456789ABCDEF"[usize::from(nibble)])),
            );
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = RepoName> {
        let word = prop_oneof![
            "[a-z0-9]{1,8}",
            Just("blobs".to_owned()),
            Just("uploads".to_owned()),
            Just("manifests".to_owned()),
            Just("tags".to_owned()),
            Just("list".to_owned()),
            Just("referrers".to_owned())
        ];
        prop::collection::vec(word, 1..6).prop_map(|words| words.join("/").parse().unwrap())
    }

    fn endpoint() -> impl Strategy<Value = (Endpoint, String)> {
        let digest = any::<u64>().prop_map(|seed| Digest::of(seed.to_le_bytes()));
        let tag = prop_oneof![
            "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}",
            Just("list".to_owned()),
            Just("uploads".to_owned())
        ];
        (name(), digest, tag, 0..7).prop_map(|(name, digest, tag, kind)| match kind {
            0 => (Endpoint::Tags(name.clone()), format!("{name}/tags/list")),
            1 => (
                Endpoint::Manifest(name.clone(), Reference::Tag(tag.parse().unwrap())),
                format!("{name}/manifests/{tag}"),
            ),
            2 => (
                Endpoint::Manifest(name.clone(), Reference::Digest(digest.clone())),
                format!("{name}/manifests/{}", percent_encode(&digest.to_string())),
            ),
            3 => (Endpoint::Blob(name.clone(), digest.clone()), format!("{name}/blobs/{digest}")),
            4 => (Endpoint::Uploads(name.clone()), format!("{name}/blobs/uploads/")),
            5 => {
                let id = uuid::Uuid::from_u128(7).to_string();
                (Endpoint::Upload(name.clone(), id.parse().unwrap()), format!("{name}/blobs/uploads/{id}"))
            }
            _ => (Endpoint::Referrers(name.clone(), digest.clone()), format!("{name}/referrers/{digest}")),
        })
    }

    proptest! {
        #[test]
        fn every_endpoint_is_found_for_any_name((expected, path) in endpoint()) {
            prop_assert_eq!(parse_path(&path), Ok(expected));
        }

        #[test]
        fn no_input_panics(path in ".*", query in ".*") {
            let _ = parse_path(&path);
            let _ = Query::parse(&query);
        }

        #[test]
        fn encoding_round_trips(text in ".*") {
            prop_assert_eq!(percent_decode(&percent_encode(&text)), Some(text));
        }
    }

    #[test]
    fn invalid_paths_have_specific_errors() {
        let digest = Digest::of("");
        let cases = [
            ("a", "NotFound"),
            ("a/b", "NotFound"),
            ("a/uploads/x", "NotFound"),
            ("A/manifests/t", "Name"),
            ("a/../b/manifests/t", "Name"),
            ("a/manifests/.bad", "Reference"),
            ("a/manifests/sha256:1", "Reference"),
            ("a/blobs/sha256:1", "Digest"),
            ("a/referrers/latest", "Digest"),
            ("a/blobs/uploads/A!", "Upload"),
            ("a/manifests/%ff", "NotFound"),
        ];
        for (path, kind) in cases {
            let error = parse_path(path).unwrap_err();
            assert!(format!("{error:?}").starts_with(kind), "{path}: {error:?}");
        }
        assert_eq!(parse_path(""), Ok(Endpoint::Ping));
        assert_eq!(parse_path("_catalog"), Ok(Endpoint::Catalog));
        assert_eq!(parse_path("token"), Ok(Endpoint::Token));
        assert_eq!(parse_path("token/tags/list"), Ok(Endpoint::Tags("token".parse().unwrap())));
        assert_eq!(parse_path("a/blobs/uploads"), Ok(Endpoint::Uploads("a".parse().unwrap())));
        let encoded = format!("a/blobs/{}", percent_encode(&digest.to_string()));
        assert_eq!(parse_path(&encoded), Ok(Endpoint::Blob("a".parse().unwrap(), digest)));
        let query = Query::parse("tag=a&tag=b&n=1&artifactType=application/x+json&broken=%zz&flag");
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.get("artifactType"), Some("application/x+json"));
        assert_eq!((query.get("flag"), query.get("broken")), (Some(""), None));
    }
}
