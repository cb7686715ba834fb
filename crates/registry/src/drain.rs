//! The rest of a request's body that its handler did not read: it is read and dropped, within bounds.
//!
//! A client that streams learns of an early response (507, 413, 401) only if its connection lives on until it
//! has read it. If the server closed the connection with unread bytes, the kernel would reset it, and the
//! client would report "broken pipe".

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::time::timeout;

/// The largest part of a request's body that is read and dropped after an early response, in bytes. Clients
/// that do not look for a response while they send need it; the others stop at once.
const MAX_DRAINED_BYTES: usize = 1024 * 1024 * 1024;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_mins(1);

/// Starts a task that ends by itself within a minute, or is ended at shutdown.
pub type Spawn = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// In the extensions of a request: its body is paced and a [`Drained`] already.
#[derive(Debug, Clone, Copy)]
pub struct IsDrained;

/// A request's body that is drained if it is dropped before its end.
pub struct Drained {
    unread: Option<BodyDataStream>,
    /// The client waits for `100 Continue`, which reading would send.
    is_awaiting: bool,
    spawn: Spawn,
}

impl std::fmt::Debug for Drained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drained").field("unread", &self.unread).finish_non_exhaustive()
    }
}

impl Drained {
    /// A body that is not empty; `expects_continue` if its client waits for `100 Continue` before it sends.
    pub fn body(body: Body, expects_continue: bool, spawn: Spawn) -> Body {
        let unread = Some(body.into_data_stream());
        Body::from_stream(Self { unread, is_awaiting: expects_continue, spawn })
    }
}

impl Stream for Drained {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.is_awaiting = false;
        let Some(unread) = &mut self.unread else { return Poll::Ready(None) };
        let next = unread.poll_next_unpin(context);
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            self.unread = None;
        }
        next
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(unread) = self.unread.take().filter(|_| !self.is_awaiting) {
            (self.spawn)(timeout(DRAIN_TIMEOUT, drain(unread)).map(drop).boxed());
        }
    }
}

async fn drain(mut unread: BodyDataStream) {
    let mut left = MAX_DRAINED_BYTES;
    while let Some(Ok(bytes)) = unread.next().await {
        left = left.saturating_sub(bytes.len());
        if left == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use tokio::sync::mpsc;

    use super::*;

    /// A body of some pieces, and a message for each that was read.
    fn body(pieces: usize) -> (Body, mpsc::Receiver<()>) {
        let (read, count) = mpsc::channel(pieces + 1);
        let stream = stream::iter(0..pieces).then(move |_| {
            let read = read.clone();
            async move {
                read.send(()).await.unwrap();
                Ok::<_, std::io::Error>(Bytes::from_static(b"piece"))
            }
        });
        (Body::from_stream(stream), count)
    }

    async fn count(mut read: mpsc::Receiver<()>) -> usize {
        let mut pieces = 0;
        while read.recv().await.is_some() {
            pieces += 1;
        }
        pieces
    }

    #[tokio::test]
    async fn an_unread_body_is_drained_unless_its_client_waits_for_permission() {
        let tasks = tokio_util::task::TaskTracker::new();
        let tracker = tasks.clone();
        let spawn: Spawn = Arc::new(move |drain| drop(tracker.spawn(drain)));
        let (unread, read) = body(3);
        drop(Drained::body(unread, false, spawn.clone()));
        assert_eq!(count(read).await, 3);

        let (begun, read) = body(3);
        let mut begun = Drained::body(begun, true, spawn.clone()).into_data_stream();
        assert_eq!(begun.next().await.unwrap().unwrap(), "piece");
        drop(begun);
        assert_eq!(count(read).await, 3, "reading has sent the permission");

        let (awaiting, read) = body(3);
        drop(Drained::body(awaiting, true, spawn));
        assert_eq!(count(read).await, 0);
        tasks.close();
        tasks.wait().await;
    }
}
