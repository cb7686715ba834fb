//! Permits of downloads: a limit in total and a share for each peer, so that the slow readers of one address do
//! not block the pulls of all others.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::Extensions;
use edgewright_model::principal::Principal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::RegistryError;
use crate::settings::RegistrySettings;

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
}

/// The permit of one download.
#[derive(Debug)]
pub(crate) struct Turn {
    _own: Option<OwnedSemaphorePermit>,
    _total: OwnedSemaphorePermit,
}

impl Downloads {
    pub(crate) fn new(settings: &RegistrySettings) -> Self {
        Self {
            anonymous: Arc::new(Semaphore::new(settings.max_downloads)),
            known: Arc::new(Semaphore::new(settings.max_known_downloads)),
            share: settings.max_downloads_per_peer,
            shares: Mutex::default(),
        }
    }

    /// Waits for a permit, at most for `limit` twice.
    pub(crate) async fn turn(&self, downloader: &Downloader, limit: Duration) -> Result<Turn, RegistryError> {
        // The own share first: who waits for it takes nothing from others.
        let own = match self.share_of(downloader) {
            Some(share) => Some(permit(share, limit, "downloads of this client").await?),
            None => None,
        };
        let total = if matches!(downloader, Downloader::Known(_)) { &self.known } else { &self.anonymous };
        Ok(Turn { _own: own, _total: permit(Arc::clone(total), limit, "downloads").await? })
    }

    /// The share of a peer; none if only the total limits it.
    fn share_of(&self, downloader: &Downloader) -> Option<Arc<Semaphore>> {
        if *downloader == Downloader::Local {
            return None;
        }
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
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

async fn permit(
    of: Arc<Semaphore>,
    limit: Duration,
    what: &'static str,
) -> Result<OwnedSemaphorePermit, RegistryError> {
    let permit = timeout(limit, of.acquire_owned()).await;
    permit.map_err(|_| RegistryError::Busy(what))?.map_err(|_| RegistryError::Closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn downloads() -> Downloads {
        let settings = RegistrySettings {
            max_downloads: 4,
            max_known_downloads: 2,
            max_downloads_per_peer: 2,
            ..RegistrySettings::new("/none")
        };
        Downloads::new(&settings)
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

    #[test]
    fn a_network_of_ipv6_addresses_is_one_peer_and_this_machine_none() {
        assert_eq!(from("2001:db8:0:1::1"), from("2001:db8:0:1:ffff::2"));
        assert_ne!(from("2001:db8:0:1::1"), from("2001:db8:0:2::1"));
        assert_eq!(from("::ffff:192.0.2.1"), from("192.0.2.1"));
        assert_eq!([from("::1"), from("::ffff:127.0.0.1")], [Downloader::Local, Downloader::Local]);
    }
}
