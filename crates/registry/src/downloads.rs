//! Permits of downloads: a limit in total and a share for each peer, so that the slow readers of one address
//! do not block the pulls of all others.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::Extensions;
use edgewright_model::principal::Principal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::error::RegistryError;

/// A download that is slower than this on average, in bytes per second, makes room for another one at a
/// limit.
const SLOW_DOWNLOAD_LIMIT: u64 = 12 * 1024;
/// How long a download may be that slow.
const SLOW_DOWNLOAD_GRACE_TIMEOUT: Duration = Duration::from_secs(30);
/// The time between two searches for slow downloads while one waits.
const LOOK: Duration = Duration::from_secs(2);

/// Who downloads, as far as limits are concerned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Downloader {
    /// A client with credentials.
    Known(String),
    /// A client without, by its address.
    Address(IpAddr),
    /// A client of this machine without credentials: a proxy may send the requests of many.
    Local,
}

impl Downloader {
    /// The downloader of a request.
    pub(crate) fn of(principal: &Principal, extensions: &Extensions) -> Self {
        if !matches!(principal, Principal::Anonymous) {
            return Self::Known(principal.to_string());
        }
        match extensions.get::<ConnectInfo<SocketAddr>>() {
            Some(ConnectInfo(peer)) if !peer.ip().to_canonical().is_loopback() => {
                Self::Address(network(peer.ip().to_canonical()))
            }
            _ => Self::Local,
        }
    }
}

/// An IPv6 client has a network of addresses (RFC 6177): it counts as one peer.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !(u128::from(u64::MAX))).into()),
        address @ IpAddr::V4(_) => address,
    }
}

/// The permits of downloads.
#[derive(Debug)]
pub(crate) struct Downloads {
    /// Clients without credentials.
    anonymous: Arc<Semaphore>,
    /// Clients with credentials: the former cannot take their permits.
    known: Arc<Semaphore>,
    share: usize,
    shares: Mutex<HashMap<Downloader, Weak<Semaphore>>>,
    active: Arc<Mutex<Active>>,
}

/// The downloads that have a permit.
#[derive(Debug, Default)]
struct Active {
    next: u64,
    downloads: HashMap<u64, Progress>,
}

#[derive(Debug)]
struct Progress {
    downloader: Downloader,
    since: Instant,
    sent: u64,
    cut: CancellationToken,
}

impl Progress {
    /// The bytes per second since its start.
    fn rate(&self) -> u64 {
        self.sent / self.since.elapsed().as_secs().max(1)
    }

    /// Whether it may be cut to make room.
    fn is_slow(&self) -> bool {
        !self.cut.is_cancelled()
            && self.since.elapsed() >= SLOW_DOWNLOAD_GRACE_TIMEOUT
            && self.rate() < SLOW_DOWNLOAD_LIMIT
    }
}

/// The permit of one download.
#[derive(Debug)]
pub(crate) struct Turn {
    number: u64,
    active: Arc<Mutex<Active>>,
    cut: CancellationToken,
    _own: Option<OwnedSemaphorePermit>,
    _total: OwnedSemaphorePermit,
}

impl Turn {
    /// To be called when the client took bytes.
    pub(crate) fn sent(&self, bytes: usize) {
        if let Some(progress) = lock(&self.active).downloads.get_mut(&self.number) {
            progress.sent += bytes as u64;
        }
    }

    /// Returns when the download has to make room for another one.
    pub(crate) async fn cut(&self) {
        self.cut.cancelled().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.active).downloads.remove(&self.number);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Downloads {
    /// `anonymous` and `known` are the limits for clients without and with credentials, `share` is that of
    /// each peer.
    pub(crate) fn new((anonymous, known): (usize, usize), share: usize) -> Self {
        Self {
            anonymous: Arc::new(Semaphore::new(anonymous)),
            known: Arc::new(Semaphore::new(known)),
            share,
            shares: Mutex::default(),
            active: Arc::default(),
        }
    }

    /// Waits for a permit, at most for `limit` twice. At a limit, the slowest download is cut if it is slower
    /// than any link that is supported.
    pub(crate) async fn turn(&self, downloader: &Downloader, limit: Duration) -> Result<Turn, RegistryError> {
        // The own share first: who waits for it takes nothing from others.
        let own = match self.share_of(downloader) {
            Some(share) => {
                let is_own = |other: &Downloader| other == downloader;
                Some(self.permit(share, limit, is_own, "downloads of this client").await?)
            }
            None => None,
        };
        let is_known = |of: &Downloader| matches!(of, Downloader::Known(_));
        let total = if is_known(downloader) { &self.known } else { &self.anonymous };
        let is_same = |other: &Downloader| is_known(other) == is_known(downloader);
        let total = self.permit(Arc::clone(total), limit, is_same, "downloads").await?;
        let cut = CancellationToken::new();
        let mut active = lock(&self.active);
        active.next += 1;
        let number = active.next;
        let progress =
            Progress { downloader: downloader.clone(), since: Instant::now(), sent: 0, cut: cut.clone() };
        active.downloads.insert(number, progress);
        drop(active);
        Ok(Turn { number, active: Arc::clone(&self.active), cut, _own: own, _total: total })
    }

    async fn permit(
        &self,
        of: Arc<Semaphore>,
        limit: Duration,
        is_rival: impl Fn(&Downloader) -> bool,
        what: &'static str,
    ) -> Result<OwnedSemaphorePermit, RegistryError> {
        let (mut permit, mut end) = (pin!(of.acquire_owned()), pin!(sleep(limit)));
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                biased;
                permit = permit.as_mut() => return permit.map_err(|_| RegistryError::Closed),
                () = end.as_mut() => return Err(RegistryError::Busy(what)),
                _ = look.tick() => self.make_room(&is_rival),
            }
        }
    }

    /// Cuts the slowest of the slow downloads.
    fn make_room(&self, is_rival: impl Fn(&Downloader) -> bool) {
        let active = lock(&self.active);
        let slow = active.downloads.values().filter(|it| is_rival(&it.downloader) && it.is_slow());
        if let Some(slowest) = slow.min_by_key(|it| it.rate()) {
            tracing::info!(client = ?slowest.downloader, rate = slowest.rate(), "cutting a slow download for another");
            slowest.cut.cancel();
        }
    }

    /// The share of a peer; none if only the total limits it.
    fn share_of(&self, downloader: &Downloader) -> Option<Arc<Semaphore>> {
        if *downloader == Downloader::Local {
            return None;
        }
        let mut shares = lock(&self.shares);
        if let Some(share) = shares.get(downloader).and_then(Weak::upgrade) {
            return Some(share);
        }
        // Permits hold their semaphore: those without are of peers that download nothing now.
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.share));
        shares.insert(downloader.clone(), Arc::downgrade(&share));
        Some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shorter than the grace of slow downloads.
    const LIMIT: Duration = Duration::from_secs(20);

    fn downloads() -> Downloads {
        Downloads::new((4, 2), 2)
    }

    fn from(address: &str) -> Downloader {
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(address.parse().unwrap(), 1)));
        Downloader::of(&Principal::Anonymous, &extensions)
    }

    #[tokio::test(start_paused = true)]
    async fn slow_readers_of_one_address_do_not_block_the_others() {
        let downloads = downloads();
        let turn = async |peer: &Downloader| downloads.turn(peer, LIMIT).await;
        let slow = from("192.0.2.1");
        let held = [turn(&slow).await.unwrap(), turn(&slow).await.unwrap()];
        let error = turn(&slow).await.unwrap_err();
        assert!(matches!(error, RegistryError::Busy("downloads of this client")), "{error}");

        let mut others =
            vec![turn(&from("192.0.2.2")).await.unwrap(), turn(&from("127.0.0.1")).await.unwrap()];
        // Everything that clients without credentials may use is used.
        assert!(matches!(turn(&from("192.0.2.3")).await.unwrap_err(), RegistryError::Busy("downloads")));
        let job = Downloader::Known("job:1".to_owned());
        others.push(turn(&job).await.unwrap());

        drop(held);
        turn(&slow).await.unwrap();
        drop(others);
        assert!(downloads.shares.lock().unwrap().len() <= 4, "shares without downloads are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_download_makes_room_and_a_thin_link_does_not() {
        let downloads = downloads();
        let local = from("127.0.0.1");
        let limit = Duration::from_mins(1);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(downloads.turn(&local, limit).await.unwrap());
        }
        // Two trickle, two are thin links.
        let seconds = 100;
        sleep(Duration::from_secs(seconds)).await;
        for (turn, rate) in held.iter().zip([6_000, 5_000, 16_000, 16_000]) {
            turn.sent(rate * usize::try_from(seconds).unwrap());
        }
        let is_cut = |turn: &Turn| turn.cut.is_cancelled();
        let mut next = pin!(downloads.turn(&local, limit));
        assert!(futures::poll!(next.as_mut()).is_pending());
        assert_eq!(held.iter().map(is_cut).collect::<Vec<_>>(), [false, true, false, false]);
        drop(held.remove(1));
        let next = next.await.unwrap();

        // Only the other one can be cut. Then the thin links stay, and the new one is young.
        let mut another = pin!(downloads.turn(&local, limit));
        assert!(futures::poll!(another.as_mut()).is_pending());
        assert_eq!(held.iter().map(is_cut).collect::<Vec<_>>(), [true, false, false]);
        let error = downloads.turn(&local, Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Busy("downloads")));
        drop((held, next));
        another.await.unwrap();
    }

    #[test]
    fn a_network_of_ipv6_addresses_is_one_peer_and_this_machine_none() {
        assert_eq!(from("2001:db8:0:1::1"), from("2001:db8:0:1:ffff::2"));
        assert_ne!(from("2001:db8:0:1::1"), from("2001:db8:0:2::1"));
        assert_eq!(from("::ffff:192.0.2.1"), from("192.0.2.1"));
        assert_eq!([from("::1"), from("::ffff:127.0.0.1")], [Downloader::Local, Downloader::Local]);
    }
}
