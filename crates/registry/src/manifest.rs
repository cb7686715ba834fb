//! Manifests as documents: the facts that are read from their bytes, which are stored unchanged.

use std::collections::BTreeMap;

use bytes::Bytes;
use edgewright_model::Digest;
use serde::Deserialize;

use crate::error::RegistryError;
use crate::metadata::{Descriptor, NewManifest};
use crate::settings::{MANIFEST_LIMIT, MAX_MANIFEST_ENTRIES};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// The prefix of artifact types that only Edgewright may write.
const RESERVED_ARTIFACTS: &str = "application/vnd.edgewright.";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Entry>,
    layers: Option<Vec<Entry>>,
    manifests: Option<Vec<Entry>>,
    subject: Option<Entry>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

impl Entry {
    /// Whether it is a layer that registries may not or need not have (image-spec, "Non-Distributable
    /// Layers").
    fn is_foreign(&self) -> bool {
        self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
            || self.media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || self.media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor { digest: self.digest.clone(), size: self.size }
    }
}

impl Document {
    /// Rejects documents that are both an image manifest and an index, or neither: clients that read them by
    /// different fields would run different content under one digest (CVE-2021-41190).
    fn check_kind(&self, is_index: bool) -> Result<(), RegistryError> {
        let has_image = self.config.is_some() || self.layers.is_some();
        let fault = match (is_index, has_image, self.manifests.is_some()) {
            (_, true, true) => {
                "it is both an image manifest and an index: it has `config` or `layers`, and `manifests`"
            }
            (false, _, true) => "an image manifest has no `manifests`",
            (true, true, _) => "an index has no `config` and no `layers`",
            (true, _, false) => "missing `manifests`",
            (false, _, _) if self.config.is_none() => "missing `config`",
            _ => return Ok(()),
        };
        Err(RegistryError::ManifestInvalid(fault.to_owned()))
    }
}

/// Parses a manifest with the request's content type; `digest` is the one to store it under.
pub(crate) fn parse(
    content_type: Option<&str>,
    digest: Digest,
    bytes: Bytes,
) -> Result<NewManifest, RegistryError> {
    let invalid = |text: &str| RegistryError::ManifestInvalid(text.to_owned());
    if bytes.len() > MANIFEST_LIMIT {
        return Err(RegistryError::ManifestTooLarge);
    }
    let document: Document = serde_json::from_slice(&bytes)
        .map_err(|error| RegistryError::ManifestInvalid(format!("malformed JSON: {error}")))?;
    if document.schema_version != 2 {
        return Err(invalid("unsupported schemaVersion: expected 2"));
    }
    let content_type = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    let media_type = match (content_type.filter(|text| !text.is_empty()), document.media_type.as_deref()) {
        (Some(header), Some(inside)) if header != inside => {
            let text = format!("Content-Type is `{header}`, but mediaType is `{inside}`");
            return Err(RegistryError::ManifestInvalid(text));
        }
        (Some(media_type), _) | (None, Some(media_type)) => media_type.to_owned(),
        (None, None) => return Err(invalid("missing mediaType and Content-Type")),
    };
    let is_index = match media_type.as_str() {
        IMAGE | DOCKER_IMAGE => false,
        INDEX | DOCKER_LIST => true,
        other => return Err(RegistryError::ManifestInvalid(format!("unsupported media type `{other}`"))),
    };
    document.check_kind(is_index)?;
    let entries = document.layers.iter().flatten().count() + document.manifests.iter().flatten().count();
    if entries > MAX_MANIFEST_ENTRIES {
        let text = format!("it refers to {entries} layers or manifests; the limit is {MAX_MANIFEST_ENTRIES}");
        return Err(RegistryError::ManifestInvalid(text));
    }
    let config = document.config.as_ref();
    let artifact_type = document.artifact_type.filter(|text| !text.is_empty());
    let artifact_type = artifact_type.or_else(|| config.map(|config| config.media_type.clone()));
    let layers = document.layers.iter().flatten().filter(|layer| !layer.is_foreign());
    let manifests = document.manifests.iter().flatten();
    Ok(NewManifest {
        digest,
        artifact_type,
        subject: document.subject.map(|subject| subject.digest),
        config: config.map(|config| config.digest.clone()),
        annotations: serde_json::to_string(&document.annotations.unwrap_or_default())
            .map_err(|_| RegistryError::Corrupt("annotations"))?,
        blobs: config.into_iter().chain(layers).map(Entry::descriptor).collect(),
        manifests: manifests.map(Entry::descriptor).collect(),
        media_type,
        bytes,
    })
}

/// Whether only Edgewright may write or delete manifests of this artifact type.
pub(crate) fn is_reserved(artifact_type: Option<&str>) -> bool {
    artifact_type.is_some_and(|text| text.starts_with(RESERVED_ARTIFACTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(media_type: &str, content: &str) -> serde_json::Value {
        serde_json::json!({"mediaType": media_type, "digest": Digest::of(content), "size": content.len()})
    }

    fn read(content_type: &str, document: &serde_json::Value) -> Result<NewManifest, RegistryError> {
        let bytes = Bytes::from(document.to_string());
        let content_type = Some(content_type).filter(|text| !text.is_empty());
        parse(content_type, Digest::of(&bytes), bytes)
    }

    #[test]
    fn an_image_needs_its_config_and_layers_but_not_foreign_ones() {
        let mut foreign = entry("application/vnd.oci.image.layer.v1.tar", "far");
        foreign["urls"] = serde_json::json!(["https://example.org/far"]);
        let document = serde_json::json!({
            "schemaVersion": 2,
            "config": entry("application/vnd.x.config", "{}"),
            "layers": [entry("application/vnd.oci.image.layer.v1.tar", "l"), foreign,
                       entry("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "n")],
            "subject": entry(IMAGE, "s"),
            "annotations": {"a": "b"},
        });
        let manifest = read(IMAGE, &document).unwrap();
        let needs: Vec<_> = manifest.blobs.iter().map(|needed| needed.digest.clone()).collect();
        assert_eq!(needs, [Digest::of("{}"), Digest::of("l")]);
        assert_eq!(manifest.artifact_type.as_deref(), Some("application/vnd.x.config"));
        assert_eq!(manifest.subject, Some(Digest::of("s")));
        assert_eq!(manifest.annotations, r#"{"a":"b"}"#);
        assert!(manifest.manifests.is_empty());
    }

    #[test]
    fn invalid_and_unsupported_manifests_are_rejected() {
        let config = entry("c", "{}");
        let cases = [
            (IMAGE, serde_json::json!({"schemaVersion": 1, "config": config})),
            (IMAGE, serde_json::json!({"schemaVersion": 2})),
            (IMAGE, serde_json::json!([])),
            // Both, neither, or the other kind.
            (IMAGE, serde_json::json!({"schemaVersion": 2, "config": config, "manifests": []})),
            (INDEX, serde_json::json!({"schemaVersion": 2, "config": config, "manifests": []})),
            (INDEX, serde_json::json!({"schemaVersion": 2, "layers": [], "manifests": []})),
            (INDEX, serde_json::json!({"schemaVersion": 2, "config": config, "layers": []})),
            (DOCKER_LIST, serde_json::json!({"schemaVersion": 2, "config": config, "layers": []})),
            (DOCKER_IMAGE, serde_json::json!({"schemaVersion": 2, "manifests": []})),
            (IMAGE, serde_json::json!({"schemaVersion": 2, "layers": []})),
            (INDEX, serde_json::json!({"schemaVersion": 2})),
            (INDEX, serde_json::json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config})),
            ("", serde_json::json!({"schemaVersion": 2, "config": config})),
            ("text/plain", serde_json::json!({"schemaVersion": 2, "config": config})),
        ];
        for (content_type, document) in cases {
            assert!(read(content_type, &document).is_err(), "{content_type} {document}");
        }
        let with_charset = format!("{IMAGE}; charset=utf-8");
        assert!(read(&with_charset, &serde_json::json!({"schemaVersion": 2, "config": config})).is_ok());
        let large = Bytes::from(vec![b' '; MANIFEST_LIMIT + 1]);
        assert!(matches!(parse(None, Digest::of(""), large), Err(RegistryError::ManifestTooLarge)));
    }
}
