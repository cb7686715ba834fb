//! The registry's way into a sandbox, where the host's loopback does not exist: the registry's own address on
//! the sandbox's loopback, a socket file between, the registry on the host.
//!
//! ```text
//! sandbox: client ─▶ 127.0.0.1:PORT ═ [into] ═▶ registry.sock ═ [out_of] ═▶ 127.0.0.1:PORT: the registry
//! ```

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use edgewright_process::OwnedTask;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The most connections at once; further ones wait.
const MAX_CONNECTIONS: usize = 64;

/// On the host: takes connections to a socket file to the registry, until the task is dropped.
///
/// # Errors
/// The socket cannot be created.
pub(crate) fn out_of(socket: &Path, registry: String) -> io::Result<OwnedTask<()>> {
    let listener = UnixListener::bind(socket)?;
    Ok(OwnedTask::spawn(async move {
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                Ok((mut inside, _)) = listener.accept(), if open.len() < MAX_CONNECTIONS => {
                    let registry = registry.clone();
                    open.push(async move {
                        // A registry that does not answer closes the connection, which the client reports.
                        let mut outside = TcpStream::connect(registry).await?;
                        tokio::io::copy_bidirectional(&mut inside, &mut outside).await
                    });
                }
                Some(_) = open.next() => {}
                else => return,
            }
        }
    }))
}

/// In the sandbox: takes connections to the registry's address to the socket file, until the task is dropped.
///
/// # Errors
/// The address cannot be listened on.
pub async fn into(address: SocketAddr, socket: PathBuf) -> io::Result<OwnedTask<()>> {
    let listener = TcpListener::bind(address).await?;
    Ok(OwnedTask::spawn(async move {
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                Ok((mut client, _)) = listener.accept(), if open.len() < MAX_CONNECTIONS => {
                    let socket = socket.clone();
                    open.push(async move {
                        let mut outside = UnixStream::connect(socket).await?;
                        tokio::io::copy_bidirectional(&mut client, &mut outside).await
                    });
                }
                Some(_) = open.next() => {}
                else => return,
            }
        }
    }))
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
        let socket = folder.path().join("registry.sock");
        let _out = out_of(&socket, address.to_string()).unwrap();
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
