//! The stream of a connection: it ends when the client takes too little of what it asked for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use edgewright_registry::Pace;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that wait in the kernel, beside those that are on the way. Without this limit the kernel takes
/// megabytes at once and then none for minutes, and a slow client looks like one that takes nothing.
const UNSENT_BYTES_LIMIT: u32 = 128 * 1024;

/// A stream with a budget for the time that writing has to wait for the client.
#[derive(Debug)]
pub(super) struct PacedStream<S> {
    inner: S,
    pace: Pace,
}

impl PacedStream<TcpStream> {
    /// A client's socket.
    pub(super) fn of_client(stream: TcpStream) -> Self {
        // Without it, a response whose last bytes wait for the digest of the others would also wait for the
        // client's delayed acknowledgement, which takes 40 ms.
        let set = stream.set_nodelay(true);
        let set = set.and_then(|()| SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_LIMIT));
        if let Err(error) = set {
            tracing::debug!(%error, "cannot set options of a socket");
        }
        Self { inner: stream, pace: Pace::default() }
    }
}

impl<S> PacedStream<S> {
    fn judge(
        &mut self,
        context: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &wrote {
            Poll::Ready(Ok(bytes)) => self.pace.progressed(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                ready!(self.pace.poll_waiting(context));
                let slow = io::Error::new(io::ErrorKind::TimedOut, "the client receives too slowly");
                return Poll::Ready(Err(slow));
            }
        }
        wrote
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.judge(context, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.judge(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;

    /// What a client takes of a megabyte, when it reads so many bytes each second.
    async fn taken(each_second: usize) -> usize {
        let (server, mut client) = duplex(64 * 1024);
        let mut server = PacedStream { inner: server, pace: Pace::default() };
        let sending = async move { server.write_all(&vec![0; 1024 * 1024]).await };
        let receiving = async {
            let (mut buffer, mut taken, started) = (vec![0; each_second.max(1)], 0, Instant::now());
            while started.elapsed() < Duration::from_hours(1) {
                sleep(Duration::from_secs(1)).await;
                match client.read(&mut buffer[..each_second]).await {
                    Ok(0) if each_second > 0 => break,
                    Ok(read) => taken += read,
                    Err(_) => break,
                }
            }
            taken
        };
        let (sent, taken) = tokio::join!(sending, receiving);
        assert_eq!(sent.is_ok(), taken == 1024 * 1024);
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_little_is_cut_and_a_slow_link_is_not() {
        assert_eq!(taken(16_000).await, 1024 * 1024);
        assert_eq!(taken(0).await, 0);
        assert!(taken(100).await < 1024 * 1024);
    }
}
