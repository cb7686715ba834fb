//! Config, manifest, index and artifact documents (OCI image-spec 1.1): byte-exact, a function of the
//! arguments alone.
//!
//! Documents are kept as JSON values, so that unknown fields of a base image are preserved, and are written
//! in one canonical form: keys sorted, no white space.

use std::collections::BTreeMap;

use bytes::Bytes;
use edgewright_model::Digest;
use edgewright_model::names::Platform;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::media::{self, Descriptor, ManifestBytes};

/// Why a document is not a valid image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not JSON, or not an object.
    #[error("malformed {what}: not a JSON object")]
    NotJson {
        /// The document.
        what: &'static str,
    },
    /// A part is missing or of the wrong shape.
    #[error("malformed {what}: missing or invalid `{field}`")]
    Field {
        /// The document.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// Config and manifest have different numbers of layers.
    #[error("malformed image: the config has {diff_ids} layers, the manifest {layers}")]
    LayerCount {
        /// Layers in the config.
        diff_ids: usize,
        /// Layers in the manifest.
        layers: usize,
    },
    /// No manifest for the platform.
    #[error("no manifest for {platform} in the image: it has {offered}")]
    NoPlatform {
        /// The requested platform.
        platform: Platform,
        /// The existing platforms.
        offered: String,
    },
}

/// The properties of a finished layer that documents contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRef {
    /// The compressed blob.
    pub descriptor: Descriptor,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
}

/// An image under construction: a base's config and layers, to which layers are added.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    config: Map<String, Value>,
    layers: Vec<LayerRef>,
    annotations: BTreeMap<String, String>,
}

/// The documents of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// The config's bytes.
    pub config: Bytes,
    /// The config's descriptor.
    pub config_descriptor: Descriptor,
    /// The manifest's bytes.
    pub manifest: Bytes,
    /// The manifest's descriptor.
    pub manifest_descriptor: Descriptor,
}

impl Image {
    /// An image without layers.
    pub fn scratch(platform: &Platform) -> Self {
        let mut config = Map::new();
        config.insert("os".to_owned(), json!(platform.os));
        config.insert("architecture".to_owned(), json!(platform.architecture));
        if let Some(variant) = &platform.variant {
            config.insert("variant".to_owned(), json!(variant));
        }
        Self { config, layers: Vec::new(), annotations: BTreeMap::new() }
    }

    /// A base image from the bytes of its manifest and config. Docker's media types become OCI's: the blobs
    /// are the same.
    pub fn parse(manifest: &[u8], config: &[u8]) -> Result<Self, ImageError> {
        let layers = layers(manifest)?;
        let Ok(Value::Object(config)) = serde_json::from_slice(config) else {
            return Err(ImageError::NotJson { what: "image config" });
        };
        let field = || ImageError::Field { what: "image config", field: "rootfs.diff_ids" };
        let diff_ids = config.get("rootfs").and_then(|r| r.get("diff_ids")).and_then(Value::as_array);
        let diff_ids: Vec<Digest> = diff_ids
            .ok_or_else(field)?
            .iter()
            .map(|id| id.as_str().and_then(|id| id.parse().ok()).ok_or_else(field))
            .collect::<Result<_, _>>()?;
        if diff_ids.len() != layers.len() {
            return Err(ImageError::LayerCount { diff_ids: diff_ids.len(), layers: layers.len() });
        }
        let layers = layers.into_iter().zip(diff_ids).map(|(mut descriptor, diff_id)| {
            if descriptor.media_type == media::DOCKER_LAYER {
                media::LAYER_GZIP.clone_into(&mut descriptor.media_type);
            }
            LayerRef { descriptor, diff_id }
        });
        Ok(Self { config, layers: layers.collect(), annotations: BTreeMap::new() })
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[LayerRef] {
        &self.layers
    }

    /// The platform that the config names, if it is another one than `wanted`. A config without
    /// architecture is of any platform.
    pub fn other_platform(&self, wanted: &Platform) -> Option<String> {
        let text =
            |field: &str| self.config.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let architecture = match text("architecture")? {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            known => known,
        };
        let own = media::DescriptorPlatform {
            os: text("os").unwrap_or("linux").to_owned(),
            architecture: architecture.to_owned(),
            variant: text("variant").map(str::to_owned),
        };
        let variant = own.variant.as_ref().map_or_else(String::new, |variant| format!("/{variant}"));
        (!own.matches(wanted)).then(|| format!("{}/{}{variant}", own.os, own.architecture))
    }

    /// Whether the config names its architecture.
    pub fn has_platform(&self) -> bool {
        self.config.get("architecture").and_then(Value::as_str).is_some_and(|text| !text.is_empty())
    }

    /// Compressed length of all layers in bytes.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.descriptor.size).sum()
    }

    /// The config's runtime settings (image-spec, `config.md`, "config"): `Env`, `Cmd`, `Labels`, ….
    pub fn runtime(&self) -> Map<String, Value> {
        self.config.get("config").and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// Replaces the runtime settings.
    pub fn set_runtime(&mut self, runtime: Map<String, Value>) {
        self.config.insert("config".to_owned(), Value::Object(runtime));
    }

    /// Sets one field of the runtime settings.
    pub fn set_runtime_field(&mut self, name: &str, value: Value) {
        let mut runtime = self.runtime();
        runtime.insert(name.to_owned(), value);
        self.set_runtime(runtime);
    }

    /// Removes the `ONBUILD` triggers of a base; gives them. Readers written in Go, such as buildah, read
    /// names of any case, so all of them are removed.
    pub fn take_triggers(&mut self) -> Vec<String> {
        let configs = self.config.iter_mut().filter(|(name, _)| name.eq_ignore_ascii_case("config"));
        let mut found = Vec::new();
        for fields in configs.filter_map(|(_, config)| config.as_object_mut()) {
            let names: Vec<String> =
                fields.keys().filter(|name| name.eq_ignore_ascii_case("OnBuild")).cloned().collect();
            let removed = names.iter().filter_map(|name| fields.remove(name));
            for triggers in removed.filter(|triggers| !triggers.is_null()) {
                let text = |trigger: &Value| trigger.as_str().unwrap_or_default().to_owned();
                match triggers.as_array() {
                    Some(triggers) => found.extend(triggers.iter().map(text)),
                    None => found.push(triggers.to_string()),
                }
            }
        }
        found
    }

    /// Sets labels of the config; those of the same name are replaced.
    pub fn add_labels(&mut self, labels: &BTreeMap<String, String>) {
        if labels.is_empty() {
            return;
        }
        let mut runtime = self.runtime();
        let mut all = runtime.get("Labels").and_then(Value::as_object).cloned().unwrap_or_default();
        all.extend(labels.iter().map(|(name, value)| (name.clone(), json!(value))));
        runtime.insert("Labels".to_owned(), Value::Object(all));
        self.set_runtime(runtime);
    }

    /// Adds a layer on top; `title` goes into the history.
    pub fn add_layer(&mut self, layer: LayerRef, title: &str, epoch: Timestamp) {
        self.push_history(json!({"created": seconds(epoch), "created_by": title}));
        self.layers.push(layer);
    }

    /// Adds a history entry for a step that changed the config only.
    pub fn add_empty(&mut self, title: &str, epoch: Timestamp) {
        self.push_history(json!({"created": seconds(epoch), "created_by": title, "empty_layer": true}));
    }

    /// The documents, `created` at `epoch`.
    pub fn documents(&self, epoch: Timestamp) -> Documents {
        let mut config = self.config.clone();
        config.insert("created".to_owned(), json!(seconds(epoch)));
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        config.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": diff_ids}));
        let config = canonical(&Value::Object(config));
        let config_descriptor = Descriptor::of(media::CONFIG, &config);
        let layers: Vec<Value> = self.layers.iter().map(|layer| descriptor(&layer.descriptor)).collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media::MANIFEST,
            "config": descriptor(&config_descriptor),
            "layers": layers,
        });
        if !self.annotations.is_empty() {
            manifest["annotations"] = json!(self.annotations);
        }
        let manifest = canonical(&manifest);
        let manifest_descriptor = Descriptor::of(media::MANIFEST, &manifest);
        Documents { config: config.into(), config_descriptor, manifest: manifest.into(), manifest_descriptor }
    }

    /// A history is optional, but if there is one it must list every layer: buildah does not build on other
    /// images. So the layers of a base without history get entries, too.
    fn push_history(&mut self, entry: Value) {
        let mut entries = match self.config.remove("history") {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        let is_layer = |entry: &&Value| entry.get("empty_layer") != Some(&Value::Bool(true));
        let listed = entries.iter().filter(is_layer).count();
        for _ in listed..self.layers.len() {
            entries.push(json!({"created_by": "a layer of the base, which says nothing of it"}));
        }
        entries.push(entry);
        self.config.insert("history".to_owned(), Value::Array(entries));
    }
}

/// The layers of an image manifest, lowest first.
pub fn layers(manifest: &[u8]) -> Result<Vec<Descriptor>, ImageError> {
    part(manifest, "layers")
}

/// The config of an image manifest.
pub fn config(manifest: &[u8]) -> Result<Descriptor, ImageError> {
    part(manifest, "config")
}

/// The manifests that an index lists.
pub fn manifests(index: &[u8]) -> Result<Vec<Descriptor>, ImageError> {
    part(index, "manifests")
}

/// The manifest of a platform in an index.
pub fn select(index: &[u8], platform: &Platform) -> Result<Descriptor, ImageError> {
    let listed = manifests(index)?;
    let matches = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.matches(platform));
    if let Some(found) = listed.iter().find(matches) {
        return Ok(found.clone());
    }
    let offered: Vec<String> = listed
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .map(|p| format!("{}/{}", p.os, p.architecture))
        .filter(|name| !name.contains("unknown"))
        .collect();
    let offered = if offered.is_empty() { "none with a platform".to_owned() } else { offered.join(", ") };
    Err(ImageError::NoPlatform { platform: platform.clone(), offered })
}

fn part<T: serde::de::DeserializeOwned>(document: &[u8], field: &'static str) -> Result<T, ImageError> {
    let what = "manifest";
    let mut document: Value = serde_json::from_slice(document).map_err(|_| ImageError::NotJson { what })?;
    let part = document.get_mut(field).map(Value::take).ok_or(ImageError::Field { what, field })?;
    serde_json::from_value(part).map_err(|_| ImageError::Field { what, field })
}

/// The index of an image: one manifest per platform, in platform order.
pub fn index(manifests: &[(Platform, Descriptor)]) -> Vec<u8> {
    let mut sorted: Vec<&(Platform, Descriptor)> = manifests.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let entries: Vec<Descriptor> = sorted
        .into_iter()
        .map(|(platform, descriptor)| Descriptor { platform: Some(platform.into()), ..descriptor.clone() })
        .collect();
    index_of(&entries)
}

/// An index of descriptors in the given order.
pub fn index_of(manifests: &[Descriptor]) -> Vec<u8> {
    let manifests: Vec<Value> = manifests.iter().map(descriptor).collect();
    canonical(&json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests}))
}

/// An artifact (image-spec, `manifest.md`): a manifest with a type, a subject, and its content as layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its type, such as `application/vnd.edgewright.verdict.v1+json`.
    pub artifact_type: String,
    /// Its subject: media type, digest and size of a manifest or an index.
    pub subject: Option<Descriptor>,
    /// Its content. If empty: one layer that is the empty JSON object.
    pub layers: Vec<Descriptor>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// The config of artifacts (and the content, if there is none): must be pushed before their manifest.
pub const EMPTY_CONFIG: &[u8] = b"{}";

impl Artifact {
    /// The manifest's bytes. Its config is [`EMPTY_CONFIG`].
    pub fn manifest(&self) -> Vec<u8> {
        let empty = Descriptor::of(media::EMPTY, EMPTY_CONFIG);
        let mut layers: Vec<Value> = self.layers.iter().map(descriptor).collect();
        if layers.is_empty() {
            layers.push(descriptor(&empty));
        }
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media::MANIFEST,
            "artifactType": self.artifact_type,
            "config": descriptor(&empty),
            "layers": layers,
        });
        if let Some(subject) = &self.subject {
            let plain = Descriptor::new(&subject.media_type, subject.digest.clone(), subject.size);
            manifest["subject"] = descriptor(&plain);
        }
        if !self.annotations.is_empty() {
            manifest["annotations"] = json!(self.annotations);
        }
        canonical(&manifest)
    }
}

/// Whether a pulled manifest lists platforms.
pub fn is_index(manifest: &ManifestBytes) -> bool {
    media::is_index(&manifest.media_type)
}

fn descriptor(descriptor: &Descriptor) -> Value {
    serde_json::to_value(descriptor).expect("a descriptor is a plain struct of strings and numbers")
}

/// RFC 3339, whole seconds, `Z`.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// JSON with sorted keys and no white space, independent of `serde_json`'s features.
fn canonical(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_canonical(value, &mut bytes);
    bytes
}

fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push(b'{');
            for (position, (key, value)) in sorted.into_iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write_scalar(key, out);
                out.push(b':');
                write_canonical(value, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write_canonical(item, out);
            }
            out.push(b']');
        }
        scalar => write_scalar(scalar, out),
    }
}

fn write_scalar(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("writing a string, number or boolean to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amd64() -> Platform {
        "linux/amd64".parse().unwrap()
    }

    fn sample() -> Image {
        let mut image = Image::scratch(&amd64());
        let layer = LayerRef {
            descriptor: Descriptor::new(media::LAYER_ZSTD, Digest::of("compressed"), 10),
            diff_id: Digest::of("plain"),
        };
        image.add_layer(layer, "bootstrap trixie", Timestamp::UNIX_EPOCH);
        image.set_runtime_field("Cmd", json!(["/sbin/init"]));
        image.add_labels(&[("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into());
        image
    }

    #[test]
    fn documents_are_golden() {
        let documents = sample().documents(Timestamp::from_second(1_700_000_000).unwrap());
        let expected = concat!(
            r#"{"architecture":"amd64","config":{"Cmd":["/sbin/init"],"Labels":{"a":"1","b":"2"}},"#,
            r#""created":"2023-11-14T22:13:20Z","#,
            r#""history":[{"created":"1970-01-01T00:00:00Z","created_by":"bootstrap trixie"}],"os":"linux","#,
            r#""rootfs":{"diff_ids":["sha256:a116c9ac46d6207734a43317d30fd88f52ad8634c37d904bbf4a41d865f90475"],"#,
            r#""type":"layers"}}"#,
        );
        let actual = String::from_utf8(documents.config.to_vec()).unwrap();
        assert_eq!(actual.replace(Digest::of("plain").hex(), "P"), {
            expected.replace("a116c9ac46d6207734a43317d30fd88f52ad8634c37d904bbf4a41d865f90475", "P")
        });
        let again = Image::parse(&documents.manifest, &documents.config).unwrap();
        assert_eq!(again.documents(Timestamp::from_second(1_700_000_000).unwrap()), documents);
        assert_eq!(config(&documents.manifest).unwrap(), documents.config_descriptor);
    }

    #[test]
    fn an_index_is_in_platform_order_and_selectable() {
        let of = |name: &str| {
            (name.parse::<Platform>().unwrap(), Descriptor::of(media::MANIFEST, name.as_bytes()))
        };
        let (amd64, arm64) = (of("linux/amd64"), of("linux/arm64"));
        let bytes = index(&[arm64.clone(), amd64.clone()]);
        assert_eq!(bytes, index(&[amd64.clone(), arm64.clone()]));
        assert_eq!(select(&bytes, &arm64.0).unwrap().digest, arm64.1.digest);
        let error = select(&bytes, &"linux/s390x".parse().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no manifest for linux/s390x in the image: it has linux/amd64, linux/arm64"
        );
    }

    #[test]
    fn triggers_are_taken_however_they_are_spelled() {
        let config = r#"{"rootfs":{"diff_ids":[]},"config":{"OnBuild":["RUN a"],"onbuild":["RUN b"],"Cmd":["c"]},
            "CONFIG":{"ONBUILD":["RUN d"]},"Other":{"OnBuild":["RUN e"]}}"#;
        let mut image = Image::parse(br#"{"layers":[]}"#, config.as_bytes()).unwrap();
        let mut triggers = image.take_triggers();
        triggers.sort();
        assert_eq!(triggers, ["RUN a", "RUN b", "RUN d"]);
        assert_eq!(image.runtime().len(), 1);
        assert_eq!(image.take_triggers(), [""; 0]);
    }

    #[test]
    fn a_config_names_the_platform() {
        let of = |config: &str| {
            let config = format!(r#"{{"rootfs":{{"diff_ids":[]}},{config}}}"#);
            Image::parse(br#"{"layers":[]}"#, config.as_bytes()).unwrap()
        };
        for (config, wanted, other) in [
            (r#""os":"linux","architecture":"amd64""#, "linux/amd64", None),
            (r#""os":"linux","architecture":"amd64""#, "linux/arm64", Some("linux/amd64")),
            (r#""os":"windows","architecture":"amd64""#, "linux/amd64", Some("windows/amd64")),
            (r#""os":"linux","architecture":"arm64","variant":"v8""#, "linux/arm64", None),
            (r#""os":"linux","architecture":"arm","variant":"v6""#, "linux/arm/v7", Some("linux/arm/v6")),
            (r#""os":"linux","architecture":"arm","variant":"""#, "linux/arm/v7", None),
            (r#""os":"linux","architecture":"aarch64""#, "linux/arm64", None),
            (r#""os":"linux","architecture":"""#, "linux/arm64", None),
        ] {
            assert_eq!(of(config).other_platform(&wanted.parse().unwrap()).as_deref(), other, "{config}");
        }
    }

    #[test]
    fn artifacts_have_a_subject() {
        let subject = Descriptor::of(media::MANIFEST, b"m");
        let artifact = Artifact {
            artifact_type: "application/x".into(),
            subject: Some(subject.clone()),
            layers: vec![],
            annotations: BTreeMap::new(),
        };
        let value: Value = serde_json::from_slice(&artifact.manifest()).unwrap();
        assert_eq!(value["subject"]["digest"], subject.digest.to_string());
        assert_eq!(value["config"]["mediaType"], media::EMPTY);
        assert_eq!(value["layers"][0]["size"], 2);
    }

    #[test]
    fn invalid_images_are_rejected() {
        assert!(Image::parse(b"[]", b"{}").is_err());
        assert!(Image::parse(br#"{"layers":[]}"#, b"[]").is_err());
        assert!(Image::parse(br#"{"layers":[]}"#, br#"{"rootfs":{"diff_ids":["x"]}}"#).is_err());
        let error = Image::parse(
            br#"{"layers":[]}"#,
            format!(r#"{{"rootfs":{{"diff_ids":["{}"]}}}}"#, Digest::of("")).as_bytes(),
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "malformed image: the config has 1 layers, the manifest 0"
        );
    }
}
