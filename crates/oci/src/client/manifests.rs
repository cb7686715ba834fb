//! Manifests, tags and referrers.

use bytes::Bytes;
use edgewright_model::Digest;
use edgewright_model::digest::Hasher;
use edgewright_model::reference::{Reference, RepoName, Tag};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LINK};
use reqwest::{Method, Response, Url};
use serde::Deserialize;

use super::error::ClientError;
use super::transport::{Request, Rights, resolve};
use super::{Client, ManifestBytes, ManifestHead};
use crate::image;
use crate::media::{self, Descriptor};

/// Maximum size of a manifest in bytes: twice what registries must accept (distribution-spec, "Pushing
/// Manifests").
const MANIFEST_LIMIT: u64 = 8 * 1024 * 1024;
/// Maximum number of pages of tags or referrers.
const PAGE_LIMIT: usize = 10_000;
const ACCEPTED: &str = concat!(
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, ",
    "application/vnd.docker.distribution.manifest.v2+json, ",
    "application/vnd.docker.distribution.manifest.list.v2+json",
);
const DIGEST_HEADER: &str = "docker-content-digest";
const SUBJECT_HEADER: &str = "oci-subject";

impl Client {
    /// A manifest, byte for byte; a manifest by digest is verified.
    pub async fn pull_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<ManifestBytes, ClientError> {
        let what = format!("manifest {reference} of {repository}");
        let url = self.transport.url(repository, &format!("manifests/{reference}"))?;
        let request = Request { method: Method::GET, url, repository, rights: Rights::Pull, what: &what };
        let answer = self.transport.send(&request, |builder| builder.header(ACCEPT, ACCEPTED)).await?;
        let declared = text_header(answer.headers(), CONTENT_TYPE.as_str());
        let bytes = self.body(answer, &what).await?;
        let digest = match reference {
            Reference::Tag(_) => Digest::of(&bytes),
            Reference::Digest(wanted) => {
                let mut hasher = Hasher::new(wanted.algorithm());
                hasher.update(&bytes);
                let actual = hasher.finish();
                if actual != *wanted {
                    let registry = self.host().to_owned();
                    return Err(ClientError::Corrupt { registry, what, actual });
                }
                actual
            }
        };
        let media_type = media_type(declared.as_deref(), &bytes)
            .ok_or_else(|| self.transport.protocol(&what, "neither a manifest nor an index"))?;
        Ok(ManifestBytes { media_type, digest, bytes })
    }

    /// A manifest's properties from a `HEAD` request; `None` if the registry does not have it.
    pub async fn head_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Option<ManifestHead>, ClientError> {
        let what = format!("manifest {reference} of {repository}");
        let url = self.transport.url(repository, &format!("manifests/{reference}"))?;
        let request = Request { method: Method::HEAD, url, repository, rights: Rights::Pull, what: &what };
        match self.transport.send(&request, |builder| builder.header(ACCEPT, ACCEPTED)).await {
            Ok(answer) => Ok(Some(ManifestHead {
                media_type: text_header(answer.headers(), CONTENT_TYPE.as_str()).unwrap_or_default(),
                digest: text_header(answer.headers(), DIGEST_HEADER).and_then(|text| text.parse().ok()),
                size: text_header(answer.headers(), CONTENT_LENGTH.as_str())
                    .and_then(|text| text.parse().ok()),
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pushes a manifest. If it has a subject and the registry does not support referrers, the tag of the
    /// fallback schema (`sha256-HEX`, distribution-spec, "Referrers Tag Schema") is updated.
    pub async fn push_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<Digest, ClientError> {
        let bytes: Bytes = bytes.into();
        let answer = self.put_manifest(repository, reference, media_type, bytes.clone()).await?;
        let digest = Digest::of(&bytes);
        if !answer.headers().contains_key(SUBJECT_HEADER)
            && let Ok(Referrer { subject: Some(subject), artifact_type, config, annotations }) =
                serde_json::from_slice(&bytes)
        {
            let mut descriptor = Descriptor::new(media_type, digest.clone(), bytes.len() as u64);
            descriptor.artifact_type = artifact_type.or(config.map(|config| config.media_type));
            descriptor.annotations = annotations;
            self.add_fallback(repository, &subject.digest, descriptor).await?;
        }
        Ok(digest)
    }

    /// All tags of a repository.
    pub async fn tags(&self, repository: &RepoName) -> Result<Vec<Tag>, ClientError> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let what = format!("tags of {repository}");
        let mut url = Some(self.transport.url(repository, "tags/list")?);
        let mut tags = Vec::new();
        for _ in 0..PAGE_LIMIT {
            let Some(next) = url.take() else { break };
            let (page, further): (Page, _) = self.page(repository, next, &what).await?;
            tags.extend(page.tags.unwrap_or_default().iter().filter_map(|tag| tag.parse().ok()));
            url = further;
        }
        Ok(tags)
    }

    /// The manifests whose subject is `digest`, of all artifact types or of one.
    pub async fn referrers(
        &self,
        repository: &RepoName,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let what = format!("referrers of {digest} of {repository}");
        let mut first = self.transport.url(repository, &format!("referrers/{digest}"))?;
        if let Some(artifact_type) = artifact_type {
            first.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let mut url = Some(first);
        let mut found = Vec::new();
        for _ in 0..PAGE_LIMIT {
            let Some(next) = url.take() else { break };
            match self.page::<ManifestList>(repository, next, &what).await {
                Ok((page, further)) => {
                    found.extend(page.manifests);
                    url = further;
                }
                Err(error) if is_without_referrers(&error) => {
                    found = self.fallback(repository, digest).await?;
                }
                Err(error) => return Err(error),
            }
        }
        let wanted = |descriptor: &Descriptor| {
            artifact_type.is_none_or(|wanted| descriptor.artifact_type.as_deref() == Some(wanted))
        };
        Ok(found.into_iter().filter(wanted).collect())
    }

    async fn put_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Response, ClientError> {
        let what = format!("a push of manifest {reference} to {repository}");
        let url = self.transport.url(repository, &format!("manifests/{reference}"))?;
        let request = Request { method: Method::PUT, url, repository, rights: Rights::Push, what: &what };
        self.transport
            .send(&request, |builder| builder.header(CONTENT_TYPE, media_type).body(bytes.clone()))
            .await
    }

    async fn fallback(&self, repository: &RepoName, digest: &Digest) -> Result<Vec<Descriptor>, ClientError> {
        let manifest = match self.pull_manifest(repository, &fallback_tag(digest)).await {
            Ok(manifest) => manifest,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let list: ManifestList = serde_json::from_slice(&manifest.bytes)
            .map_err(|error| self.transport.protocol("the referrers tag", error.to_string()))?;
        Ok(list.manifests)
    }

    async fn add_fallback(
        &self,
        repository: &RepoName,
        subject: &Digest,
        descriptor: Descriptor,
    ) -> Result<(), ClientError> {
        let mut list = self.fallback(repository, subject).await?;
        if list.iter().any(|known| known.digest == descriptor.digest) {
            return Ok(());
        }
        list.push(descriptor);
        let bytes = image::index_of(&list);
        self.put_manifest(repository, &fallback_tag(subject), media::INDEX, bytes.into()).await.map(drop)
    }

    async fn page<T: serde::de::DeserializeOwned>(
        &self,
        repository: &RepoName,
        url: Url,
        what: &str,
    ) -> Result<(T, Option<Url>), ClientError> {
        let request = Request { method: Method::GET, url, repository, rights: Rights::Pull, what };
        let answer = self.transport.send(&request, |builder| builder).await?;
        let next = text_header(answer.headers(), LINK.as_str());
        let next = next.as_deref().and_then(next_link);
        let next = next.map(|link| resolve(&request.url, link)).transpose()?;
        let bytes = self.body(answer, what).await?;
        let page = serde_json::from_slice(&bytes)
            .map_err(|error| self.transport.protocol(what, format!("a malformed body ({error})")))?;
        Ok((page, next))
    }

    async fn body(&self, mut answer: Response, what: &str) -> Result<Bytes, ClientError> {
        let mut bytes = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => return Ok(bytes.into()),
                Err(source) => return Err(self.transport.unreachable(what, source)),
            }
            if bytes.len() as u64 > MANIFEST_LIMIT {
                let (registry, what) = (self.host().to_owned(), what.to_owned());
                return Err(ClientError::TooLarge { registry, what, limit: MANIFEST_LIMIT });
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ManifestList {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// Registries without referrers respond with 404, as specified, or with an unsupported operation.
fn is_without_referrers(error: &ClientError) -> bool {
    error.is_not_found() || matches!(error, ClientError::Status { status: 405 | 501, .. })
}

fn fallback_tag(digest: &Digest) -> Reference {
    let tag = format!("{}-{}", digest.algorithm().name(), digest.hex());
    // A tag may be 128 bytes long: a sha512 digest (135) is cut, as specified.
    let tag: String = tag.chars().take(128).collect();
    Reference::Tag(tag.parse().expect("an algorithm's name, a dash and hex digits are a tag"))
}

fn text_header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The target of `<…>; rel="next"`.
fn next_link(header: &str) -> Option<&str> {
    header.split(',').find(|link| link.contains("rel=\"next\"") || link.contains("rel=next")).and_then(
        |link| {
            let (_, rest) = link.split_once('<')?;
            rest.split_once('>').map(|(target, _)| target)
        },
    )
}

/// The media type in the manifest takes precedence; the header is used only without one.
fn media_type(declared: Option<&str>, bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let document: Document = serde_json::from_slice(bytes).ok()?;
    let declared = declared.filter(|text| text.starts_with("application/vnd.")).map(str::to_owned);
    let shape = || match (document.manifests, document.layers) {
        (Some(_), None) => Some(media::INDEX.to_owned()),
        (None, Some(_)) => Some(media::MANIFEST.to_owned()),
        _ => None,
    };
    document.media_type.or(declared).or_else(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_links_parse() {
        assert_eq!(
            next_link(r#"</v2/a/tags/list?last=x&n=2>; rel="next""#),
            Some("/v2/a/tags/list?last=x&n=2")
        );
        assert_eq!(next_link(r#"</a>; rel="prev", </b>; rel="next""#), Some("/b"));
        assert_eq!(next_link("nonsense"), None);
    }

    #[test]
    fn the_media_type_of_a_manifest_takes_precedence() {
        let oci = br#"{"schemaVersion":2,"layers":[]}"#;
        assert_eq!(media_type(Some("text/plain"), oci).as_deref(), Some(media::MANIFEST));
        assert_eq!(media_type(Some(media::DOCKER_MANIFEST), oci).as_deref(), Some(media::DOCKER_MANIFEST));
        assert_eq!(media_type(None, br#"{"manifests":[]}"#).as_deref(), Some(media::INDEX));
        assert_eq!(media_type(None, b"{}"), None);
        assert_eq!(media_type(None, b"<html>"), None);
    }

    #[test]
    fn fallback_tags_fit_every_algorithm() {
        assert_eq!(fallback_tag(&Digest::of("")).to_string(), Digest::of("").to_string().replace(':', "-"));
        let mut hasher = Hasher::new(edgewright_model::digest::Algorithm::Sha512);
        hasher.update(b"");
        assert_eq!(fallback_tag(&hasher.finish()).to_string().len(), 128);
    }
}
