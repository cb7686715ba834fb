//! The least progress of a client: one that takes or sends nothing, or less than a minimum rate, is cut.
//!
//! A [`Pace`] is a budget of waiting time. Waiting for the client uses it, each byte gives some back. So the
//! time that the server itself needs never counts, and neither do pauses that later bytes make up for.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use futures::stream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, Sleep, sleep_until};

/// The least rate of a client that sends or receives, in bytes per second: a quarter of the slowest site link
/// that is supported.
pub const CLIENT_RATE_LIMIT: u32 = 4 * 1024;
/// How long a client may send and receive nothing.
pub const CLIENT_STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// A client's budget of waiting time.
#[derive(Debug)]
pub struct Pace {
    limit: Duration,
    rate: u32,
    left: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(CLIENT_STALL_TIMEOUT, CLIENT_RATE_LIMIT)
    }
}

impl Pace {
    /// A full budget: `limit` without any progress, and in the long run `rate` bytes per second.
    pub const fn new(limit: Duration, rate: u32) -> Self {
        Self { limit, rate, left: limit, waiting_since: None, timer: None }
    }

    /// To be called whenever the client makes the server wait. Ready when the budget is used up.
    pub fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            let deadline = now + self.left;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(deadline),
                None => self.timer = Some(Box::pin(sleep_until(deadline))),
            }
        }
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.poll_unpin(context))
    }

    /// To be called when the client took or sent bytes.
    pub fn progressed(&mut self, bytes: usize) {
        if let Some(since) = self.waiting_since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.left = self.limit.min(self.left + Duration::from_secs(1) * bytes / self.rate.max(1));
    }

    /// Waits for `work`, which depends on the client; none if the budget was used up first.
    pub(crate) async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => self.poll_waiting(context).map(|()| None),
        })
        .await
    }
}

/// A request's body that fails when its client is too slow.
pub fn paced(body: Body, mut pace: Pace) -> Body {
    let mut stream = body.into_data_stream();
    Body::from_stream(stream::poll_fn(move |context| match stream.poll_next_unpin(context) {
        Poll::Ready(Some(Ok(bytes))) => {
            pace.progressed(bytes.len());
            Poll::Ready(Some(Ok(bytes)))
        }
        Poll::Ready(other) => Poll::Ready(other),
        Poll::Pending => {
            ready!(pace.poll_waiting(context));
            let slow = io::Error::new(io::ErrorKind::TimedOut, "the client sends too slowly");
            Poll::Ready(Some(Err(axum::Error::new(slow))))
        }
    }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::time::sleep;

    use super::*;

    /// The bytes that are received of a client that sends `size` bytes each `period`, `count` times.
    async fn received(size: usize, period: Duration, count: usize) -> usize {
        let sending = stream::unfold(0, move |sent| async move {
            if sent == count {
                return None;
            }
            sleep(period).await;
            Some((Ok::<_, io::Error>(Bytes::from(vec![0; size])), sent + 1))
        });
        let mut body = paced(Body::from_stream(sending), Pace::default()).into_data_stream();
        let mut received = 0;
        while let Some(Ok(bytes)) = body.next().await {
            received += bytes.len();
        }
        received
    }

    #[tokio::test(start_paused = true)]
    async fn steady_clients_finish_and_slow_ones_are_cut() {
        let second = Duration::from_secs(1);
        // 16 KB/s: a little each second, or much after a long pause, for hours.
        assert_eq!(received(16_000, second, 10_000).await, 160_000_000);
        assert_eq!(received(16_000 * 50, second * 50, 100).await, 80_000_000);
        // Nothing for more than a minute.
        assert_eq!(received(1_000_000, second * 61, 3).await, 0);
        // A byte each second uses up the budget, although something arrives all the time.
        assert!((50..70).contains(&received(1, second, 10_000).await));
        // What was fast once is cut a minute after it has become slow, at the latest.
        let mut pace = Pace::default();
        pace.progressed(usize::MAX);
        assert!(pace.wait(sleep(second * 59)).await.is_some());
        pace.progressed(4096);
        assert!(pace.wait(sleep(second * 59)).await.is_none());
    }
}
