//! The distribution client (distribution-spec 1.1), used by jobs, control and mirrors with any registry.
//!
//! Pulls are verified: a digest mismatch is an error after the last chunk, and broken connections are resumed
//! by `Range`. Pushes of files are streamed, and resumed where the registry kept the upload. The client uses
//! no environment variables: addresses and credentials are arguments.

mod auth;
mod copy;
mod error;
mod manifests;
mod passing;
mod pull;
mod push;
mod transport;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgewright_model::Digest;
use edgewright_model::order::RegistryAccess;
use tokio::io::AsyncWriteExt as _;

use passing::Redirects;

pub use auth::Credentials;
pub use error::ClientError;
pub use passing::BlobPart;
pub use pull::BlobReader;

pub use crate::media::ManifestBytes;

/// Called with the number of bytes done and, if known, the total.
pub type Progress<'a> = &'a (dyn Fn(u64, Option<u64>) + Send + Sync);

/// No progress reports.
pub const QUIET: Progress<'static> = &|_, _| {};

/// The properties of a manifest from a `HEAD` request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    /// Its media type.
    pub media_type: String,
    /// Its digest, if the registry sends it.
    pub digest: Option<Digest>,
    /// Its length in bytes, if the registry sends it.
    pub size: Option<u64>,
}

/// A client of one registry. Clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Arc<transport::Transport>,
}

impl Client {
    /// A client of a job's registry.
    pub fn new(access: &RegistryAccess) -> Result<Self, ClientError> {
        let credentials = match &access.token {
            Some(token) => Credentials::Bearer(token.clone()),
            None => Credentials::Anonymous,
        };
        Self::with_url(&access.url, credentials)
    }

    /// A client of the registry at a base address such as `https://quay.io`.
    pub fn with_url(url: &str, credentials: Credentials) -> Result<Self, ClientError> {
        Self::with_authority(url, credentials, None)
    }

    /// As [`Client::with_url`], with an additional certificate authority (PEM).
    pub fn with_authority(
        url: &str,
        credentials: Credentials,
        authority: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        Self::with_redirects(url, credentials, authority, Redirects::Default)
    }

    fn with_redirects(
        url: &str,
        credentials: Credentials,
        authority: Option<&[u8]>,
        redirects: Redirects,
    ) -> Result<Self, ClientError> {
        let transport = transport::Transport::new(url, credentials, authority, redirects)?;
        Ok(Self { transport: Arc::new(transport) })
    }

    /// A client of the registry `HOST[:PORT]` of an image reference: with TLS, except for loopback addresses.
    pub fn for_host(host: &str, credentials: Credentials) -> Result<Self, ClientError> {
        Self::with_url(&transport::url_of_host(host), credentials)
    }

    /// A client of the same registry with another bearer token. It shares the connections, not the tokens.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        let credentials = token.map_or(Credentials::Anonymous, |token| Credentials::Bearer(token.to_owned()));
        Self { transport: Arc::new(self.transport.with_credentials(credentials)) }
    }

    /// Host and port, as in image references.
    pub fn host(&self) -> &str {
        self.transport.host()
    }

    /// The credentials as the text of such a file.
    pub fn auth_json(&self) -> String {
        self.transport.auth_json()
    }

    /// Writes the credentials into a file of `folder` for `podman --authfile`, readable by its owner only.
    pub async fn write_auth_file(&self, folder: &Path) -> std::io::Result<PathBuf> {
        let path = folder.join("registry-auth.json");
        let mut file = tokio::fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let mut file = file.await?;
        file.write_all(self.transport.auth_json().as_bytes()).await?;
        file.flush().await?;
        Ok(path)
    }

    /// Whether the registry uses plain HTTP (then container tools need `--tls-verify=false`).
    pub fn is_plain_http(&self) -> bool {
        self.transport.is_plain_http()
    }
}
