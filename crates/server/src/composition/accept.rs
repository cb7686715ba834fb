//! Accepting connections and serving the router on them, each in a task of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, header};
use edgewright_process::Tasks;
use edgewright_registry::{Drained, IsDrained, Pace, Spawn, paced};
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tower::ServiceExt as _;

use super::connections::{Connections, InProgress, Slot};
use super::stream::PacedStream;
use crate::http::access::OverTls;
use crate::tls::Certificate;

/// The largest head of a request, and the bytes of a response that wait for a slow client, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The largest number of concurrent requests of an HTTP/2 connection.
const MAX_STREAMS: u32 = 64;
/// How often an HTTP/2 client is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long an HTTP/2 client may take to respond to that.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause after a connection could not be accepted, for example because of too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener with what its connections need.
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    /// With it, connections begin with a TLS handshake.
    pub(super) certificate: Option<Certificate>,
    pub(super) app: Router,
    pub(super) connections: Connections,
    pub(super) tasks: Tasks,
}

impl Acceptor {
    /// Accepts connections until shutdown.
    pub(super) async fn run(self) {
        let stopping = self.tasks.token().clone();
        loop {
            let accepted = tokio::select! {
                () = stopping.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.start(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    self.connections.evict_idle();
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn start(&self, stream: TcpStream, peer: SocketAddr) {
        let Some(slot) = self.connections.admit(peer.ip()) else {
            tracing::warn!(client.address = %peer, "too many connections; closing a new one");
            return;
        };
        let stream = PacedStream::of_client(stream);
        let connection =
            Connection { app: self.app.clone(), slot: Arc::new(slot), peer, tasks: self.tasks.clone() };
        let certificate = self.certificate.clone();
        self.tasks.spawn("connection", async move {
            let Some(certificate) = certificate else { return connection.serve(stream, None).await };
            let handshake = tokio::select! {
                stream = certificate.accept(stream, peer) => stream,
                () = connection.slot.ended() => None,
            };
            if let Some(stream) = handshake {
                connection.serve(stream, Some(OverTls)).await;
            }
        });
    }
}

struct Connection {
    app: Router,
    slot: Arc<Slot>,
    peer: SocketAddr,
    tasks: Tasks,
}

impl Connection {
    /// Serves requests until the client, the timeouts, a connection that needs the place, or shutdown end it.
    async fn serve<S>(self, stream: S, tls: Option<OverTls>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { app, slot, peer, tasks } = self;
        let (requests, bodies) = (Arc::clone(&slot), drains(&tasks));
        let service = service_fn(move |request: Request<Incoming>| {
            respond(app.clone(), request, (peer, tls), (requests.begin(), bodies.clone()))
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().max_buf_size(MAX_HEAD_BYTES);
        let mut http2 = builder.http2();
        http2.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_TIMEOUT);
        http2.max_concurrent_streams(MAX_STREAMS);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut ended = pin!(slot.ended());
        let stopping = tasks.token();
        let mut is_stopping = false;
        loop {
            tokio::select! {
                served = serving.as_mut() => {
                    if let Err(error) = served {
                        tracing::debug!(client.address = %peer, error, "connection failed");
                    }
                    return;
                }
                () = ended.as_mut() => return,
                () = stopping.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Reads the rest of bodies, until shutdown.
fn drains(tasks: &Tasks) -> Spawn {
    let tasks = tasks.clone();
    Arc::new(move |drain| {
        let stopping = tasks.token().clone();
        tasks.spawn("unread request body", async move {
            tokio::select! {
                () = drain => {}
                () = stopping.cancelled() => {}
            }
        });
    })
}

async fn respond(
    app: Router,
    request: Request<Incoming>,
    (peer, tls): (SocketAddr, Option<OverTls>),
    (in_progress, bodies): (InProgress, Spawn),
) -> Result<Response<Tracked>, Infallible> {
    let expects_continue = request.headers().contains_key(header::EXPECT);
    let mut request = request.map(|body| {
        if body.is_end_stream() {
            return Body::empty();
        }
        Drained::body(paced(Body::new(body), Pace::default()), expects_continue, bodies)
    });
    request.extensions_mut().insert(IsDrained);
    request.extensions_mut().insert(ConnectInfo(peer));
    if let Some(tls) = tls {
        request.extensions_mut().insert(tls);
    }
    let response = app.oneshot(request).await?;
    Ok(response.map(|body| Tracked { body, _in_progress: in_progress }))
}

/// A response's body; the request is in progress until it ends.
struct Tracked {
    body: Body,
    _in_progress: InProgress,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
