//! One connection: a device asks, waits, and asks again.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

/// What bootc, podman and skopeo accept.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";
/// Addresses of the loopback interface that clients use: one has 28,000 ports at a time.
const SOURCES: u8 = 16;

/// A connection that is kept.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// What moves the bytes. It is polled with each request: no task outlives its connection.
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    host: String,
}

/// A response.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The digest of a manifest.
    pub(crate) digest: Option<String>,
    pub(crate) body: Bytes,
}

impl Connection {
    /// Connects, `number` being that of the client.
    pub(crate) async fn open(server: SocketAddr, number: usize) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        let last = 1 + u8::try_from(number % usize::from(SOURCES)).unwrap_or_default();
        socket.bind((Ipv4Addr::new(127, 0, 1, last), 0).into()).context("no free port")?;
        let stream = socket.connect(server).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Box::pin(driver), host: server.to_string() })
    }

    /// Asks for a manifest.
    pub(crate) async fn get(&mut self, path: &str, authorization: Option<&str>) -> anyhow::Result<Answer> {
        let mut request = Request::get(path).header(ACCEPT, MANIFESTS);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.header(HOST, &self.host).body(Full::default())?;
        self.exchange(request).await
    }

    /// Sends a document.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        authorization: Option<&str>,
        document: &serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        let mut request =
            Request::builder().method(Method::POST).uri(path).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let body = Full::from(document.to_string());
        let answer = self.exchange(request.header(HOST, &self.host).body(body)?).await?;
        if !answer.status.is_success() {
            bail!("POST {path}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let sender = &mut self.sender;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let digest = response.headers().get("docker-content-digest");
            let digest = digest.and_then(|digest| digest.to_str().ok()).map(str::to_owned);
            anyhow::Ok(Answer { status, digest, body: response.into_body().collect().await?.to_bytes() })
        };
        tokio::select! {
            biased;
            answer = exchange => answer,
            ended = &mut self.driver => {
                ended.context("the connection broke")?;
                bail!("the server closed the connection")
            }
        }
    }
}
