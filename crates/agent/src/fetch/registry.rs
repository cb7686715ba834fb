//! The registry that a device follows, and its mirrors.

use edgewright_model::Digest;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::Platform;
use edgewright_model::reference::{ImageReference, Reference, RepoName};
use edgewright_model::spec::Check;
use edgewright_oci::{Client, ClientError, Credentials, ManifestBytes, image};

use super::{Blobs, FetchError};
use crate::blocking::blocking;
use crate::config::Config;
use crate::machine::Update;
use crate::updater::Image;

/// Maximum length of an image config, in bytes.
const MAX_CONFIG: u64 = 8 * 1024 * 1024;

/// A registry with its mirrors. Clones share connections.
#[derive(Debug, Clone)]
pub struct Registry {
    /// The registry that `image` names.
    origin: Client,
    /// Mirrors in order of preference.
    mirrors: Vec<Client>,
    image: ImageReference,
    platform: Platform,
}

/// The platform of this device, in Go's spelling.
pub fn host_platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
}

impl Registry {
    /// The registry of a configuration.
    pub fn new(config: &Config) -> Result<Self, FetchError> {
        let image = config.image.clone();
        let client = |url: &str| -> Result<Client, FetchError> {
            let host = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
            // `docker login` names the registry by its host in image references.
            let name = if host == "registry-1.docker.io" { "docker.io" } else { host };
            let credentials = match &config.auth {
                Some(text) => Credentials::from_auth_json(&text.0, name, image.repository.as_str())
                    .map_err(|error| FetchError::Settings(error.into()))?,
                None => Credentials::Anonymous,
            };
            Client::with_authority(url, credentials, config.authority.as_deref())
                .map_err(|error| FetchError::Settings(error.into()))
        };
        let origin = match &config.registry {
            Some(url) => client(url)?,
            None => client(&default_url(&image.registry))?,
        };
        let mirrors = config.mirrors.iter().map(|url| client(url)).collect::<Result<_, _>>()?;
        Ok(Self { origin, mirrors, image, platform: host_platform() })
    }

    /// The repository.
    pub const fn repository(&self) -> &RepoName {
        &self.image.repository
    }

    /// Sources of content by digest, in order of preference: mirrors, then the registry.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Client> {
        self.mirrors.iter().chain(std::iter::once(&self.origin))
    }

    /// The digest to run. The registry itself is asked first; mirrors answer if it does not, because they may
    /// be behind.
    pub async fn resolve(&self) -> Result<(Update, ManifestBytes), FetchError> {
        let reference = match (&self.image.digest, &self.image.tag) {
            (Some(digest), _) => Reference::Digest(digest.clone()),
            (None, Some(tag)) => Reference::Tag(tag.clone()),
            (None, None) => Reference::Tag(latest()?),
        };
        let found = self.first(|client| client.pull_manifest(self.repository(), &reference), true).await;
        let found = found.map_err(|errors| FetchError::Sources { what: self.image.to_string(), errors })?;
        if !image::is_index(&found) {
            return Ok((self.update(&found, None), found));
        }
        let what = found.digest.to_string();
        let selected = image::select(&found.bytes, &self.platform)
            .map_err(|source| FetchError::Image { what, source })?;
        let manifest = self.manifest(&selected.digest).await?;
        Ok((self.update(&manifest, Some(found.digest)), manifest))
    }

    fn update(&self, manifest: &ManifestBytes, index: Option<Digest>) -> Update {
        Update { digest: manifest.digest.clone(), index, reference: self.image.to_string() }
    }

    async fn manifest(&self, digest: &Digest) -> Result<ManifestBytes, FetchError> {
        let reference = Reference::Digest(digest.clone());
        let found = self.first(|client| client.pull_manifest(self.repository(), &reference), false).await;
        found.map_err(|errors| FetchError::Sources { what: format!("manifest {digest}"), errors })
    }

    /// The documents of an update, from the folder if it has them.
    pub async fn documents(&self, update: &Update, blobs: &Blobs) -> Result<Image, FetchError> {
        let digest = update.digest.clone();
        let folder = blobs.clone();
        let known = blocking({
            let digest = digest.clone();
            move || folder.document(&digest)
        });
        let manifest = match known.await? {
            Some(bytes) => {
                ManifestBytes { media_type: media_type(&bytes), digest: digest.clone(), bytes: bytes.into() }
            }
            None => self.manifest(&digest).await?,
        };
        let broken = |source| FetchError::Image { what: digest.to_string(), source };
        let descriptor = image::config(&manifest.bytes).map_err(broken)?;
        let folder = blobs.clone();
        let config_digest = descriptor.digest.clone();
        let config = if let Some(bytes) = blocking(move || folder.document(&config_digest)).await? {
            bytes.into()
        } else {
            let wanted = &descriptor.digest;
            let pull = |client: Client| async move {
                client.pull_blob_bytes(self.repository(), wanted, MAX_CONFIG).await
            };
            let found = self.first(|client| pull(client.clone()), false).await;
            found.map_err(|errors| FetchError::Sources { what: format!("config {wanted}"), errors })?
        };
        image::Image::parse(&manifest.bytes, &config).map_err(broken)?;
        let image = Image {
            reference: self.image.clone(),
            manifest,
            config,
            index: update.index.clone(),
            layout: blobs.folder().to_owned(),
        };
        let (folder, saved) = (blobs.clone(), image.clone());
        blocking(move || {
            folder.add(saved.digest(), &saved.manifest.bytes)?;
            folder.add(&descriptor.digest, &saved.config)?;
            folder.set_manifest(&saved.manifest)
        })
        .await??;
        Ok(image)
    }

    /// The check set of an image; none if there is none, or if no source can list what refers to an image.
    ///
    /// # Errors
    /// If no source is reachable: an image must not pass without its checks because the network was away.
    pub async fn check_set(&self, manifest: &Digest) -> Result<Option<Vec<Check>>, FetchError> {
        let mut sources: Vec<&Client> = self.sources().collect();
        sources.rotate_right(1);
        let count = sources.len();
        let mut errors = Vec::new();
        for client in sources {
            match crate::health::fetch(client, self.repository(), manifest).await {
                Ok(Some(checks)) => return Ok(Some(checks)),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, registry = client.host(), "no check set");
                    errors.extend(is_away(&error).then_some(error));
                }
            }
        }
        if errors.len() < count {
            return Ok(None);
        }
        Err(FetchError::Sources { what: format!("the health checks of {manifest}"), errors })
    }

    /// The first success, or the errors of all sources.
    async fn first<'a, T, F: Future<Output = Result<T, ClientError>>>(
        &'a self,
        ask: impl Fn(&'a Client) -> F,
        origin_first: bool,
    ) -> Result<T, Vec<ClientError>> {
        let mut sources: Vec<&Client> = self.sources().collect();
        if origin_first {
            sources.rotate_right(1);
        }
        let mut errors = Vec::new();
        for client in sources {
            match ask(client).await {
                Ok(found) => return Ok(found),
                Err(error) => errors.push(error),
            }
        }
        Err(errors)
    }
}

/// Whether a source did not respond, or was not able to: another time it may.
fn is_away(error: &ClientError) -> bool {
    let is_odd = matches!(error, ClientError::Protocol { .. } | ClientError::Local { .. });
    error.class() == ErrorClass::Unavailable && !is_odd
}

/// The media type that a manifest names itself; Docker's do.
fn media_type(manifest: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        media_type: Option<String>,
    }
    let named = serde_json::from_slice::<Named>(manifest).ok().and_then(|named| named.media_type);
    named.unwrap_or_else(|| edgewright_oci::media::MANIFEST.to_owned())
}

fn latest() -> Result<edgewright_model::reference::Tag, FetchError> {
    "latest".parse().map_err(|error: edgewright_model::names::InvalidName| FetchError::Settings(error.into()))
}

/// With TLS; without it only on the loopback, as container tools have it.
fn default_url(host: &str) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    match host {
        "docker.io" => "https://registry-1.docker.io".to_owned(),
        _ if name == "localhost" || name.starts_with("127.") || name == "[::1]" => format!("http://{host}"),
        _ => format!("https://{host}"),
    }
}
