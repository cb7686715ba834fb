//! TLS of our own: a second listener beside the plain one, which jobs and commands on this machine keep using.
//!
//! Certificate and key are files that somebody else renews; SIGHUP reads them again for new connections.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::serve::Listener;
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// How long a client may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Clients that agree on keys at the same time; further ones wait in the kernel's queue.
const AT_ONCE: usize = 256;

/// Where to listen with TLS, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Address and port.
    pub listen: SocketAddr,
    /// File with the certificate and those between it and its authority (PEM).
    pub certificate: PathBuf,
    /// File with its key (PEM).
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file does not hold what it should.
    #[error("{what} cannot be read from {}", .path.display())]
    File {
        /// What.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// There is no certificate in its file.
    #[error("there is no certificate (PEM) in {}", .path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// Certificate and key do not go together.
    #[error("the certificate of {} cannot be used", .path.display())]
    Unfit {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

impl TlsSettings {
    /// Reads certificate and key. Blocking.
    ///
    /// # Errors
    /// They cannot be read, or do not go together.
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
        let unfit = |source| TlsError::Unfit { path: self.certificate.clone(), source };
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(unfit)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The certificate of now. Clones share it.
#[derive(Debug, Clone)]
pub struct Certificate(Arc<RwLock<Arc<ServerConfig>>>);

impl Certificate {
    /// Begins with one.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    /// Takes the place of what was, for connections that begin from now on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

type Handshake = BoxFuture<'static, Option<(TlsStream<TcpStream>, SocketAddr)>>;

/// Accepts connections and gives those that speak TLS; a slow client holds up nobody.
pub(crate) struct TlsListener {
    listener: TcpListener,
    certificate: Certificate,
    handshakes: FuturesUnordered<Handshake>,
}

impl TlsListener {
    pub(crate) fn new(listener: TcpListener, certificate: Certificate) -> Self {
        Self { listener, certificate, handshakes: FuturesUnordered::new() }
    }

    fn begin(&self, stream: TcpStream, peer: SocketAddr) {
        let acceptor = self.certificate.acceptor();
        let agree = async move {
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Some((stream, peer)),
                Ok(Err(error)) => {
                    tracing::debug!(client.address = %peer, %error, "a client did not agree on TLS");
                    None
                }
                Err(_) => None,
            }
        };
        self.handshakes.push(agree.boxed());
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                (stream, peer) = Listener::accept(&mut self.listener), if self.handshakes.len() < AT_ONCE => {
                    self.begin(stream, peer);
                }
                Some(agreed) = self.handshakes.next(), if !self.handshakes.is_empty() => {
                    if let Some(agreed) = agreed {
                        return agreed;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
