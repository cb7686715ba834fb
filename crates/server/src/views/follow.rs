//! What many followers wait for is looked at once: they share one look per interval.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

/// How often something that is followed is looked at.
pub(super) const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// What is followed now, by key. Nothing is kept of what no one follows.
#[derive(Debug)]
pub(super) struct Followed<K, T>(Arc<Mutex<BTreeMap<K, Weak<Watch<T>>>>>);

/// One thing that is followed, and its last look.
#[derive(Debug)]
pub(super) struct Watch<T>(tokio::sync::Mutex<Option<(Instant, T)>>);

impl<K, T> Clone for Followed<K, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, T> Default for Followed<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord, T> Followed<K, T> {
    /// The watch that all followers of a key share.
    pub(super) fn watch(&self, key: K) -> Arc<Watch<T>> {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = followed.get(&key).and_then(Weak::upgrade) {
            return watch;
        }
        followed.retain(|_, watch| watch.strong_count() > 0);
        let watch = Arc::new(Watch(tokio::sync::Mutex::new(None)));
        followed.insert(key, Arc::downgrade(&watch));
        watch
    }
}

impl<T: Clone> Watch<T> {
    /// The result of a look that is younger than the interval; `look` is awaited if there is none. Followers
    /// that ask meanwhile wait for the same result.
    pub(super) async fn look<E>(&self, look: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut last = self.0.lock().await;
        if let Some((at, seen)) = &*last
            && at.elapsed() < FOLLOW_INTERVAL
        {
            return Ok(seen.clone());
        }
        let seen = look.await?;
        *last = Some((Instant::now(), seen.clone()));
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::join_all;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn four_hundred_followers_look_as_often_as_one() {
        let followed = Followed::<&str, u32>::default();
        let looks = AtomicU32::new(0);
        let look = async || Ok::<_, Infallible>(looks.fetch_add(1, Ordering::Relaxed));
        let follow = async |name| {
            let watch = followed.watch(name);
            for _ in 0..10 {
                watch.look(look()).await.unwrap();
                sleep(FOLLOW_INTERVAL).await;
            }
        };
        join_all((0..400).map(|_| follow("a"))).await;
        assert_eq!(looks.load(Ordering::Relaxed), 10);
        join_all([follow("b"), follow("c")]).await;
        assert_eq!(looks.load(Ordering::Relaxed), 30, "each has looks of its own");
        assert_eq!(followed.0.lock().unwrap().len(), 2, "what no one follows is forgotten");
    }
}
