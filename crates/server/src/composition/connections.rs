//! Connections of clients: how many there are, and which of them end when there are too many.
//!
//! A connection is idle between two requests, and before its first one. At a limit the connection that is
//! idle for longest makes room for a new one, so clients that connect and wait cannot keep others away.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The largest number of connections of both listeners, if the limit of open files permits it.
const MAX_CONNECTIONS: usize = 4096;
/// The largest number of connections of one address. Loopback has no such limit: jobs, commands and reverse
/// proxies of this machine share that address.
const MAX_CONNECTIONS_PER_PEER: usize = 512;
/// How long a client may take from connecting to the end of its first request's head, TLS handshake included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection is kept after a request, until the end of the next one's head. Longer than clients
/// keep theirs (90 s in Go and reqwest), so that no request meets a closing connection.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_mins(2);
/// The open files of a connection: its socket, and the file that it reads or writes.
const FILES_PER_CONNECTION: u64 = 2;

/// The open connections. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    table: Arc<Mutex<Table>>,
    total: usize,
    per_peer: usize,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    peer: IpAddr,
    state: Arc<State>,
}

/// What is known of a connection.
#[derive(Debug)]
struct State {
    activity: Mutex<Activity>,
    /// Wakes the connection's timer when a request begins or ends.
    changed: Notify,
    /// Cancelled to make room.
    evicted: CancellationToken,
}

#[derive(Debug)]
struct Activity {
    /// Requests whose responses have not ended.
    requests: usize,
    /// When the connection was accepted, or its last request ended.
    since: Instant,
    timeout: Duration,
}

/// A place in the table; leaves it when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    connections: Connections,
    id: u64,
    state: Arc<State>,
}

/// A request in progress; ends when dropped.
#[derive(Debug)]
pub(super) struct InProgress(Arc<State>);

impl Connections {
    /// The limits for a process that may open so many files.
    pub(super) fn within(open_files: u64) -> Self {
        let by_files = usize::try_from(open_files / FILES_PER_CONNECTION / 2).unwrap_or(usize::MAX);
        Self::new(by_files.clamp(16, MAX_CONNECTIONS), MAX_CONNECTIONS_PER_PEER)
    }

    fn new(total: usize, per_peer: usize) -> Self {
        Self { table: Arc::default(), total, per_peer }
    }

    /// A place for a new connection of `peer`; none if all are busy.
    pub(super) fn admit(&self, peer: IpAddr) -> Option<Slot> {
        let peer = peer.to_canonical();
        let mut table = lock(&self.table);
        let of_peer = || table.open.values().filter(|entry| entry.peer == peer).count();
        if !peer.is_loopback() && of_peer() >= self.per_peer && !table.evict(Some(peer)) {
            return None;
        }
        if table.open.len() >= self.total && !table.evict(None) {
            return None;
        }
        let activity = Activity { requests: 0, since: Instant::now(), timeout: HEAD_TIMEOUT };
        let state = Arc::new(State {
            activity: Mutex::new(activity),
            changed: Notify::new(),
            evicted: CancellationToken::new(),
        });
        table.next += 1;
        let id = table.next;
        table.open.insert(id, Entry { peer, state: Arc::clone(&state) });
        Some(Slot { connections: self.clone(), id, state })
    }

    /// Ends the connection that is idle for longest, if there is one.
    pub(super) fn evict_idle(&self) {
        lock(&self.table).evict(None);
    }
}

impl Table {
    fn evict(&mut self, peer: Option<IpAddr>) -> bool {
        let of_peer = self.open.iter().filter(|(_, entry)| peer.is_none_or(|peer| entry.peer == peer));
        let idle = of_peer.filter_map(|(id, entry)| Some((entry.state.idle_since()?, *id)));
        let Some((_, id)) = idle.min() else { return false };
        // Its place is free at once; its socket is closed by its task.
        if let Some(entry) = self.open.remove(&id) {
            entry.state.evicted.cancel();
        }
        true
    }
}

impl State {
    fn idle_since(&self) -> Option<Instant> {
        let activity = lock(&self.activity);
        (activity.requests == 0).then_some(activity.since)
    }

    fn idle_until(&self) -> Option<Instant> {
        let activity = lock(&self.activity);
        (activity.requests == 0).then(|| activity.since + activity.timeout)
    }
}

impl Slot {
    /// Notes that a request has begun.
    pub(super) fn begin(&self) -> InProgress {
        lock(&self.state.activity).requests += 1;
        self.state.changed.notify_one();
        InProgress(Arc::clone(&self.state))
    }

    /// Waits until the connection has to end: it was idle for too long, or makes room for another one.
    pub(super) async fn ended(&self) {
        loop {
            let changed = self.state.changed.notified();
            let until = self.state.idle_until();
            let timeout = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.state.evicted.cancelled() => return,
                () = timeout => return,
                () = changed => {}
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.connections.table).open.remove(&self.id);
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut activity = lock(&self.0.activity);
        activity.requests -= 1;
        (activity.since, activity.timeout) = (Instant::now(), KEEP_ALIVE_TIMEOUT);
        drop(activity);
        self.0.changed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    fn peer(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn is_evicted(slot: &Slot) -> bool {
        slot.state.evicted.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn at_a_limit_the_oldest_idle_connection_makes_room() {
        let connections = Connections::new(4, 2);
        let mut slots = Vec::new();
        for last in [1, 1, 2, 2] {
            slots.push(connections.admit(peer(last)).unwrap());
            sleep(Duration::from_secs(1)).await;
        }
        // Peer 2 has its share: one of its own ends.
        slots.push(connections.admit(peer(2)).unwrap());
        assert_eq!(slots.iter().map(is_evicted).collect::<Vec<_>>(), [false, false, true, false, false]);
        slots[2].ended().await;
        // All places are taken: the oldest that is not busy ends.
        let busy = slots[0].begin();
        slots.push(connections.admit(peer(3)).unwrap());
        assert!(!is_evicted(&slots[0]) && is_evicted(&slots[1]));
        let all: Vec<_> = slots.iter().map(Slot::begin).collect();
        assert!(connections.admit(peer(4)).is_none(), "all are busy");
        drop((busy, all));
        assert!(connections.admit(peer(4)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_end_and_busy_ones_do_not() {
        let connections = Connections::new(4, 2);
        let slot = connections.admit(peer(1)).unwrap();
        assert!(timeout(HEAD_TIMEOUT * 2, slot.ended()).await.is_ok(), "no request");
        let slot = connections.admit(peer(1)).unwrap();
        let request = slot.begin();
        assert!(timeout(Duration::from_hours(1), slot.ended()).await.is_err(), "a long response");
        drop(request);
        assert!(timeout(Duration::from_secs(100), slot.ended()).await.is_err(), "kept alive");
        assert!(timeout(Duration::from_secs(30), slot.ended()).await.is_ok());
    }

    #[test]
    fn loopback_has_no_limit_of_its_own() {
        let connections = Connections::new(10, 2);
        let of = |text: &str| connections.admit(text.parse().unwrap()).unwrap();
        let slots: Vec<_> = ["127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1", "::1"].map(of).into();
        assert!(!slots.iter().any(is_evicted));
        drop(slots);
        assert!(lock(&connections.table).open.is_empty());
        assert_eq!(Connections::within(64).total, 16);
        assert_eq!(Connections::within(1024).total, 256);
        assert_eq!(Connections::within(1 << 20).total, MAX_CONNECTIONS);
    }
}
