//! The way of a registry on this host into a sandbox, where addresses of the host do not exist: the same
//! address on the sandbox's loopback, a socket file between, the registry on the host.
//!
//! ```text
//! sandbox: client ─▶ 127.0.0.1:PORT ═ [into] ═▶ ADDRESS.sock ═ [out_of] ═▶ 127.0.0.1:PORT: the registry
//! ```

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use edgewright_process::{Command, OwnedTask};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The most connections at once; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// How long an address may take to be added.
const ADD_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a connection could not be accepted, for example because of too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// On the host: takes connections to a socket file to an address, until the task is dropped.
///
/// # Errors
/// The socket cannot be created.
pub(crate) fn out_of(socket: &Path, address: SocketAddr) -> io::Result<OwnedTask<()>> {
    let listener = UnixListener::bind(socket)?;
    Ok(relay(
        move |context| listener.poll_accept(context).map_ok(|(stream, _)| stream),
        move || TcpStream::connect(address),
    ))
}

/// In the sandbox: takes connections to an address of the host to the socket file, until the task is dropped.
/// An address that is not loopback becomes one of the sandbox's loopback interface.
///
/// # Errors
/// The address cannot be listened on.
pub async fn into(address: SocketAddr, socket: PathBuf) -> io::Result<OwnedTask<()>> {
    if !address.ip().is_loopback() {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let add = Command::new("ip").args(["address", "add"]).arg(format!("{}/{length}", address.ip()));
        // Another forward may have added it.
        drop(add.args(["dev", "lo"]).deadline(ADD_TIMEOUT).run_status().await);
    }
    let listener = TcpListener::bind(address).await?;
    Ok(relay(
        move |context| listener.poll_accept(context).map_ok(|(stream, _)| stream),
        move || UnixStream::connect(socket.clone()),
    ))
}

/// Connects each accepted connection with another one. One that cannot be connected is closed, which its
/// client reports.
fn relay<From, To, Connecting>(
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<From>> + Send + Sync + 'static,
    connect: impl Fn() -> Connecting + Send + Sync + 'static,
) -> OwnedTask<()>
where
    From: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    To: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Connecting: Future<Output = io::Result<To>> + Send + 'static,
{
    OwnedTask::spawn(async move {
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = poll_fn(&accept), if open.len() < MAX_CONNECTIONS => match accepted {
                    Ok(mut from) => {
                        let connecting = connect();
                        open.push(async move {
                            let mut to = connecting.await?;
                            copy_bidirectional(&mut from, &mut to).await
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection to the registry");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = open.next(), if !open.is_empty() => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_through_the_socket_file() {
        let registry = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = registry.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("one.sock");
        let _out = out_of(&socket, address).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _into = into(free, socket).await.unwrap();
        let mut client = TcpStream::connect(free).await.unwrap();
        client.write_all(b"question").await.unwrap();
        let (mut served, _) = registry.accept().await.unwrap();
        let mut heard = [0; 8];
        served.read_exact(&mut heard).await.unwrap();
        served.write_all(b"response").await.unwrap();
        drop(served);
        let mut response = Vec::new();
        client.read_to_end(&mut response).await.unwrap();
        assert_eq!((&heard, response.as_slice()), (b"question", &b"response"[..]));
    }
}
