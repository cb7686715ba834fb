//! The TLS listener, besides the plain one, which jobs and commands on this machine keep using.
//!
//! Another program renews the files of certificate and key; SIGHUP reads them again for new connections.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The TLS listener and its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Address and port.
    pub listen: SocketAddr,
    /// File with the certificate and the intermediate certificates (PEM).
    pub certificate: PathBuf,
    /// File with its key (PEM).
    pub key: PathBuf,
}

/// Why the TLS listener does not start.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or decoded.
    #[error("cannot read {what} in {}", .path.display())]
    File {
        /// Certificate or key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: pem::Error,
    },
    /// The file contains no certificate.
    #[error("no certificate (PEM) in {}", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The certificate is invalid, or does not match the key.
    #[error("invalid certificate or key for {}", .path.display())]
    Invalid {
        /// The certificate's file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: rustls::Error,
    },
}

impl TlsSettings {
    /// Reads certificate and key. Blocking.
    ///
    /// # Errors
    /// They cannot be read, or do not match.
    pub fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let fail = |what, path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::File { what, path, source }
        };
        let certificates = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(fail("the certificate", &self.certificate))?;
        if certificates.is_empty() {
            return Err(TlsError::Empty { path: self.certificate.clone() });
        }
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(fail("the certificate's key", &self.key))?;
        let invalid = |source| TlsError::Invalid { path: self.certificate.clone(), source };
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(invalid)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(invalid)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The current certificate. Clones share it.
#[derive(Debug, Clone)]
pub struct Certificate(Arc<RwLock<Arc<ServerConfig>>>);

impl Certificate {
    /// Starts with a certificate.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    /// Replaces the certificate, for new connections.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// The stream after its TLS handshake; none if it fails or takes too long.
    pub(crate) async fn accept<S>(&self, stream: S, peer: SocketAddr) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(client.address = %peer, %error, "TLS handshake failed");
                None
            }
            Err(_) => None,
        }
    }
}
